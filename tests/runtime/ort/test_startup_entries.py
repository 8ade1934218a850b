from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.ort.startup_entries import ENTRY, Entries, size_limit
from gpt2onnx.staging import is_stage
from tests.raising import raises

LIMIT = 1000
MADE_OF = {"model": "a", "onnxruntime": "1.31.1"}


@pytest.fixture
def entries(tmp_path: Path) -> Entries:
    return Entries(tmp_path / "startup", LIMIT)


def writer(size: int, refused: str | None = None) -> Callable[[Path], str | None]:
    def write(folder: Path) -> str | None:
        (folder / "model.onnx").write_bytes(b"x" * size)
        return refused

    return write


def names(entries: Entries) -> list[str]:
    return sorted(entry.made_of["model"] for entry in entries)


def add(entries: Entries, model: str, size: int, used: float) -> None:
    entries.add({"model": model}, {}, writer(size))
    entry = entries.find({"model": model})
    assert entry is not None
    os.utime(entry.path / ENTRY, (used, used))


def test_what_was_added_is_found(entries: Entries) -> None:
    assert entries.find(MADE_OF) is None
    entries.add(MADE_OF, {"path": "/models/a"}, writer(10))
    entry = entries.find(MADE_OF)
    assert entry is not None
    assert (entry.size, entry.refused, entry.about) == (10, None, {"path": "/models/a"})
    assert (entry.path / "model.onnx").read_bytes() == b"x" * 10
    assert [each.path for each in entries] == [entry.path]


@pytest.mark.parametrize("part", MADE_OF)
def test_each_part_of_what_it_was_made_of_counts(entries: Entries, part: str) -> None:
    entries.add(MADE_OF, {}, writer(10))
    assert entries.find(MADE_OF | {part: "another"}) is None
    assert entries.find(MADE_OF) is not None


def test_an_entry_of_that_name_but_made_of_something_else_is_removed(entries: Entries) -> None:
    entries.add(MADE_OF, {}, writer(10))
    (entry,) = entries
    content = json.loads((entry.path / ENTRY).read_text())
    (entry.path / ENTRY).write_text(json.dumps(content | {"made_of": {"model": "b"}}))
    assert entries.find(MADE_OF) is None
    assert not entry.path.exists()


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def rewrite(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(b"y" * len(content))
    os.utime(file, (1, 1))


def flip_a_bit(file: Path) -> None:
    """Keeping its time, as a restored copy has it, or a fault of the disk's."""
    before, content = file.stat(), bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("damage", [shorten, rewrite, flip_a_bit, Path.unlink])
@pytest.mark.parametrize("name", ["model.onnx", ENTRY])
def test_a_damaged_entry_is_thrown_away(
    entries: Entries, damage: Callable[[Path], None], name: str
) -> None:
    entries.add(MADE_OF, {}, writer(10))
    (entry,) = entries
    damage(entry.path / name)
    assert entries.find(MADE_OF) is None
    assert not entry.path.exists()


def test_a_copy_is_as_good_as_what_it_was_copied_from(entries: Entries) -> None:
    """Its times are others; the content is compared once."""
    entries.add(MADE_OF, {}, writer(10))
    (entry,) = entries
    copy = Entries(entries.folder.with_name("copy"), LIMIT)
    shutil.copytree(entries.folder, copy.folder)
    found = copy.find(MADE_OF)
    assert found is not None
    assert found.files != entry.files
    assert [each.files for each in copy] == [found.files]
    assert sorted(file.name for file in found.path.iterdir()) == [ENTRY, "model.onnx"]


JSON = [None, True, -1, 10**400, 1e999, "x", "/etc/passwd", [], [1], {}, {"a": 1}, {"a": []}]
STAMP = [10, 1, 1, "0" * 64]
STAMPS = [
    *({"model.onnx": [*STAMP[:place], value, *STAMP[place + 1 :]]} for place in range(4)
      for value in JSON),
    *({name: STAMP} for name in ("../model.onnx", "/etc/passwd", "a\0b", "", "..")),
]  # fmt: skip


@pytest.mark.parametrize("field", ["made_of", "about", "files", "refused", "more"])
@pytest.mark.parametrize("value", [*JSON, *STAMPS])
def test_any_json_in_any_field(entries: Entries, field: str, value: object) -> None:
    """It is read, or it is none: never an error."""
    entries.add(MADE_OF, {}, writer(10))
    (entry,) = entries
    content = json.loads((entry.path / ENTRY).read_text())
    (entry.path / ENTRY).write_text(json.dumps(content | {field: value}))
    assert len(list(entries)) + len(list(entries.others())) == 1
    found = entries.find(MADE_OF)
    assert found is None or field in ("about", "refused", "more") or found.files == {}
    entries.add(MADE_OF, {}, writer(10))
    assert entries.find(MADE_OF) is not None


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b"1", b'{"files": {"a": 1}}'])
def test_what_is_no_entry_is_swept_in_time(entries: Entries, content: bytes) -> None:
    entries.add(MADE_OF, {}, writer(10))
    (entry,) = entries
    (entry.path / ENTRY).write_bytes(content)
    assert list(entries) == []
    os.utime(entry.path, (1, 1))
    entries.add({"model": "b"}, {}, writer(10))
    assert not entry.path.exists()


@pytest.mark.parametrize("replaced", [os.mkfifo, os.mkdir])
def test_an_entry_that_is_no_file(entries: Entries, replaced: Callable[[Path], None]) -> None:
    entries.add(MADE_OF, {}, writer(10))
    (entry,) = entries
    for name in ("model.onnx", ENTRY):
        (entry.path / name).unlink()
        replaced(entry.path / name)
        assert entries.find(MADE_OF) is None
        entries.add(MADE_OF, {}, writer(10))


def test_nothing_is_more_open_than_umask(entries: Entries) -> None:
    before = os.umask(0o077)
    try:
        entries.add(MADE_OF, {}, writer(10))
    finally:
        os.umask(before)
    assert all(not path.stat().st_mode & 0o077 for path in entries.folder.rglob("*"))


def test_a_refusal_is_remembered_without_files(entries: Entries) -> None:
    entries.add(MADE_OF, {}, writer(10, "it doesn't fit"))
    entry = entries.find(MADE_OF)
    assert entry is not None
    assert (entry.refused, entry.size) == ("it doesn't fit", 0)
    assert [file.name for file in entry.path.iterdir()] == [ENTRY]


def test_the_least_recently_used_goes_first(entries: Entries) -> None:
    now = time.time()
    add(entries, "old", 400, now - 30)
    add(entries, "older, but used", 400, now - 40)
    assert entries.find({"model": "older, but used"}) is not None
    add(entries, "new", 400, now)
    assert names(entries) == ["new", "older, but used"]
    add(entries, "as large as the limit", LIMIT, now)
    assert names(entries) == ["as large as the limit"]


def test_an_entry_larger_than_the_limit_is_not_kept(entries: Entries) -> None:
    add(entries, "small", 10, time.time())
    with pytest.raises(OSError, match="the limit is"):
        entries.add(MADE_OF, {}, writer(LIMIT + 1))
    assert names(entries) == ["small"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no space left"), ValueError])
def test_what_the_writer_raises_leaves_nothing(
    entries: Entries, error: BaseException | type[BaseException]
) -> None:
    def write(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(b"x")
        raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        entries.add(MADE_OF, {}, write)
    assert list(entries.folder.iterdir()) == []


def die(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_leaves_is_never_seen_and_swept_later(entries: Entries) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=entries.add, args=(MADE_OF, {}, die))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (left,) = entries.folder.iterdir()
    assert is_stage(left)
    assert entries.find(MADE_OF) is None
    assert list(entries) == []
    entries.add(MADE_OF, {}, writer(10))
    assert not left.exists()
    assert entries.find(MADE_OF) is not None


def test_of_two_at_once_the_later_one_gives_way(entries: Entries) -> None:
    def write(folder: Path) -> None:
        entries.add(MADE_OF, {"by": "the faster"}, writer(10))
        (folder / "model.onnx").write_bytes(b"x" * 10)

    entries.add(MADE_OF, {"by": "the slower"}, write)
    (entry,) = entries
    assert entry.about == {"by": "the faster"}
    assert [path.name for path in entries.folder.iterdir()] == [entry.path.name]


def test_an_open_file_outlives_its_entry(entries: Entries) -> None:
    entries.add(MADE_OF, {}, writer(10))
    (entry,) = entries
    with (entry.path / "model.onnx").open("rb") as file:
        entries.remove(entry.path)
        assert file.read() == b"x" * 10


def test_a_folder_that_is_another_users(entries: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", deny)
    assert entries.find(MADE_OF) is None


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    entries = Entries(tmp_path / "file" / "startup", LIMIT)
    assert list(entries) == []
    assert entries.find(MADE_OF) is None
    with pytest.raises(OSError, match="Not a directory"):
        entries.add(MADE_OF, {}, writer(10))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 4 * 10**9),
        ("0", 0),
        ("123", 123),
        ("500M", 5 * 10**8),
        ("2g", 2 * 10**9),
        ("1GB", 10**9),
    ],
)
def test_the_size_limit(monkeypatch: pytest.MonkeyPatch, text: str, expected: int) -> None:
    monkeypatch.setenv("GPT2ONNX_STARTUP_CACHE_SIZE", text)
    assert size_limit() == expected


@pytest.mark.parametrize(
    "text", ["many", "-1", "1.5G", "G", "10X", "9" * 400, "9" * 5000, "\udcff"]
)
def test_a_size_limit_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GPT2ONNX_STARTUP_CACHE_SIZE", text)
    with raises(ParameterError, parameters={"GPT2ONNX_STARTUP_CACHE_SIZE": text}):
        size_limit()
