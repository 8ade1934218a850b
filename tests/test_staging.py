from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2onnx import staging
from gpt2onnx.staging import LOCK, NEW, OLD, is_stage, remove_open, stage, sweep

# Stages what it is told, says so, and waits to be killed.
HOLD = """
import signal, sys
from pathlib import Path
from gpt2onnx.staging import stage
for number in (signal.SIGTERM, signal.SIGHUP):  # nohup has the latter ignored
    signal.signal(number, signal.SIG_DFL)
with stage(Path(sys.argv[1])) as folder:
    (folder / "new").mkdir()
    (folder / "new" / "part").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model"


@pytest.fixture
def left(target: Path) -> Path:
    """What a killed process has left."""
    with held(target) as process:
        found = Path(process.stdout.readline().decode().strip())
        process.kill()
    return found


def held(target: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HOLD, str(target)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("failure", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_stays(target: Path, failure: type[BaseException] | None) -> None:
    def work() -> None:
        with stage(target) as folder:
            assert folder.parent == target.parent
            assert is_stage(folder)
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / NEW).mkdir()
            (folder / NEW / "file").write_text("x")
            (folder / "link").symlink_to(target.parent)
            if failure:
                raise failure

    if failure:
        with pytest.raises(failure):
            work()
    else:
        work()
    assert staging._open == set()
    assert names(target.parent) == []


def test_a_dead_process_s_stage_goes_with_the_next(left: Path, target: Path) -> None:
    assert (left / NEW / "part").exists()
    with stage(target) as folder:
        assert names(target.parent) == [folder.name]


def test_a_living_process_s_stage_stays(target: Path) -> None:
    with held(target) as process:
        other = Path(process.stdout.readline().decode().strip())
        with stage(target):
            assert (other / NEW / "part").read_text() == "half"
        assert names(target.parent) == [other.name]
        process.communicate(b"")
    assert names(target.parent) == []


def test_all_of_them_can_be_removed_at_once(target: Path) -> None:
    with stage(target) as first, stage(target.with_name("other")):
        (first / NEW).mkdir()
        remove_open()
        assert names(target.parent) == []


def test_two_in_one_process(target: Path) -> None:
    with stage(target) as first, stage(target) as second:
        assert first != second
        assert (first / LOCK).exists()


def test_only_what_is_of_the_same_target_is_swept(left: Path, target: Path) -> None:
    mine = [
        ".model.tmp",
        ".model.gpt2onnx-xyz",
        "model.gpt2onnx-0000000000000000",
        ".m.gpt2onnx-0000000000000000",
    ]
    for name in mine:
        (target.parent / name).mkdir()
        (target.parent / name / LOCK).touch()
    (target.parent / ".model.gpt2onnx-000000000000000f").write_text("a file")
    sweep(target.with_name("other"))
    assert left.exists()
    sweep(target)
    assert names(target.parent) == sorted([*mine, ".model.gpt2onnx-000000000000000f"])


def test_no_link_is_followed(target: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / LOCK).touch()
    (precious / "file").touch()
    (tmp_path / ".model.gpt2onnx-0000000000000001").symlink_to(precious)
    forged = tmp_path / ".model.gpt2onnx-0000000000000002"
    forged.mkdir()
    (forged / LOCK).touch()
    (forged / "link").symlink_to(precious)
    sweep(target)
    assert names(precious) == ["file", LOCK]
    assert not forged.exists()


def test_what_had_given_way_comes_back(left: Path, target: Path) -> None:
    """A process was killed between two renames: the old model is all there is."""
    (left / OLD).mkdir()
    (left / OLD / "model.onnx").write_text("old")
    sweep(target)
    assert (target / "model.onnx").read_text() == "old"
    assert names(target.parent) == ["model"]


def test_what_had_given_way_goes_where_its_place_is_taken(left: Path, target: Path) -> None:
    (left / OLD).mkdir()
    target.mkdir()
    sweep(target)
    assert names(target.parent) == ["model"]
    assert names(target) == []


def test_a_stage_that_was_swept_before_it_was_locked(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process sweeps between any two steps of making one; then another one is made."""
    opened, lock, made = os.open, staging._lock, []

    def open_late(path: str | Path, *given: int, **named: int) -> int:
        if not made and Path(path).name == LOCK:
            made.append(path)
            Path(path).parent.rmdir()
        return opened(path, *given, **named)

    def lock_late(descriptor: int) -> bool | None:
        if len(made) == 1:
            made.append(descriptor)
            (swept,) = target.parent.iterdir()
            staging._remove(swept)
        return lock(descriptor)

    monkeypatch.setattr(os, "open", open_late)
    monkeypatch.setattr(staging, "_lock", lock_late)
    with stage(target) as folder:
        assert len(made) == 2
        assert names(target.parent) == [folder.name]
        assert names(folder) == [LOCK]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "a b", "[*]", "-", "a\nb"])
def test_any_name_that_a_file_can_have(tmp_path: Path, name: str) -> None:
    with stage(tmp_path / name) as folder:
        assert folder.exists()
    with held(tmp_path / name) as process:
        process.stdout.readline()
        process.kill()
    assert len(names(tmp_path)) == 1
    sweep(tmp_path / name)
    assert names(tmp_path) == []


def test_many_at_once(target: Path) -> None:
    """Processes that stage and sweep the same target leave each other alone, and nothing."""
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    with context.Pool(4) as pool:
        assert all(pool.map(_stage_often, [target] * 4))
    assert names(target.parent) == []


def _stage_often(target: Path) -> bool:
    whole = []
    for _ in range(50):
        with stage(target) as folder:
            (folder / NEW).mkdir()
            (folder / NEW / "file").write_text("x")
            whole.append((folder / NEW / "file").exists() and (folder / LOCK).exists())
    return all(whole)


def test_a_file_system_without_locks(
    left: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing tells the dead from the living there: a stage is made, and none is swept."""

    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(staging.fcntl, "flock", unsupported)
    with stage(target):
        assert left.exists()
    assert names(target.parent) == [left.name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_that_nobody_heeds_leaves_it_to_the_next(target: Path, number: int) -> None:
    with held(target) as process:
        process.stdout.readline()
        process.send_signal(number)
    assert len(names(target.parent)) == 1
    sweep(target)
    assert names(target.parent) == []


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, FileExistsError])
def test_a_place_where_no_folder_can_be_made(
    target: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """Such as /proc, where the system says that it isn't there."""

    def refused(path: Path, mode: int) -> None:
        raise error(2, "refused", str(path))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(error), stage(target):
        pass
    assert staging._open == set()


def test_a_folder_that_cant_be_read_is_left_alone(tmp_path: Path) -> None:
    sweep(tmp_path / "none" / "model")
