from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest
from tokenizers import Tokenizer

from gpt2onnx.errors import OutputExistsError, StorageError
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from gpt2onnx.export.writing import folder
from gpt2onnx.export.writing.folder import check_replaceable, staged, write_manifest, write_settings
from gpt2onnx.runtime.folder import manifest
from gpt2onnx.runtime.folder import model_folder as runtime_folder
from tests.checkpoints import make_checkpoint
from tests.raising import raises


def tree(place: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the content of files, None for folders."""
    return {
        path.relative_to(place).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in place.rglob("*")
    }


def nothing(out: Path) -> None:
    """Leave the place empty."""


def model_folder(out: Path) -> None:
    out.mkdir()
    (out / "manifest.json").write_text("{}")
    (out / "model.onnx").write_bytes(b"old")
    (out / "notes.txt").write_bytes(b"old")


STATES = [nothing, Path.mkdir, model_folder]


def fail(out: Path, failure: BaseException | type[BaseException]) -> NoReturn:
    """Write a little of a folder, and then no more."""
    with staged(out, force=True) as stage:
        (stage / "file").write_bytes(b"new")
        raise failure


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "model"


@pytest.mark.parametrize("state", STATES)
def test_a_stage_takes_its_place_at_the_end(out: Path, state: Callable[[Path], None]) -> None:
    state(out)
    with staged(out, force=True) as stage:
        (stage / "file").write_bytes(b"new")
        before = tree(out) if out.exists() else {}
        assert b"new" not in before.values()
    assert tree(out.parent) == {"model": None, "model/file": b"new"}


def test_folders_above_are_made(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "model"
    with staged(out, force=False) as stage:
        (stage / "file").touch()
    assert [*tree(tmp_path)] == ["a", "a/b", "a/b/model", "a/b/model/file"]


def test_a_new_folder_has_the_users_permissions(out: Path) -> None:
    umask = os.umask(0o027)
    try:
        with staged(out, force=False):
            pass
    finally:
        os.umask(umask)
    assert out.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("state", STATES)
def test_a_failure_leaves_everything_as_it_was(
    out: Path, state: Callable[[Path], None], failure: type[BaseException]
) -> None:
    state(out)
    before = tree(out.parent)
    with pytest.raises(failure):
        fail(out, failure)
    assert tree(out.parent) == before


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO]
)
def test_what_the_system_says_of_a_disk_is_a_storage_error(out: Path, code: int) -> None:
    model_folder(out)
    before = tree(out.parent)
    with pytest.raises(StorageError, match=f"model: {os.strerror(code)}; ") as raised:
        fail(out, OSError(code, os.strerror(code)))
    assert "\n" not in str(raised.value)
    assert tree(out.parent) == before


def test_a_librarys_own_os_error_stays_what_it_is(out: Path) -> None:
    with pytest.raises(OSError, match="can't load the model"):
        fail(out, OSError("can't load the model"))


def test_a_folder_that_may_not_be_written_to(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = Path.mkdir

    def denied(path: Path, *given: object, **named: object) -> None:
        if not named.get("exist_ok"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        mkdir(path, *given, **named)

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(StorageError, match=r"\.model\.gpt2onnx-\w+: Permission denied; "):
        fail(out, RuntimeError("the block was entered"))


def test_a_folder_that_may_not_be_read(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_folder(out)

    def denied(self: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", denied)
    with raises(StorageError, path=out):
        check_replaceable(out, force=True)


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()])
def test_the_old_folder_comes_back_where_the_new_one_cannot_be_put(
    out: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    model_folder(out)
    before = tree(out.parent)
    rename = Path.rename

    def rename_all_but_new(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_all_but_new)
    with pytest.raises((StorageError, KeyboardInterrupt)), staged(out, force=True):
        pass
    assert tree(out.parent) == before


@pytest.mark.parametrize("force", [True, False])
def test_what_somebody_else_wrote_meanwhile_stays(out: Path, force: bool) -> None:
    def write_meanwhile() -> None:
        with staged(out, force):
            out.mkdir()
            (out / "file").write_bytes(b"theirs")

    with pytest.raises(OutputExistsError):
        write_meanwhile()
    assert tree(out.parent) == {"model": None, "model/file": b"theirs"}


def test_a_folder_is_replaced_by_force_alone(out: Path) -> None:
    model_folder(out)
    with pytest.raises(OutputExistsError, match=r"model: exists already; force \(--force\)"):
        check_replaceable(out, force=False)
    check_replaceable(out, force=True)


@pytest.mark.parametrize("force", [True, False])
def test_what_is_no_folder_is_refused(out: Path, force: bool) -> None:
    (out.parent / "folder").mkdir()
    for make in (
        lambda: out.write_bytes(b"a file"),
        lambda: out.symlink_to("nowhere"),
        lambda: out.symlink_to("folder"),
    ):
        make()
        with pytest.raises(OutputExistsError, match="model: is no folder; choose another place"):
            check_replaceable(out, force)
        out.unlink()


@pytest.mark.parametrize("names", [["manifest.json"], ["model.onnx"], ["thesis.tex"]])
def test_force_deletes_no_folder_of_somebody_elses(out: Path, names: list[str]) -> None:
    out.mkdir()
    for name in names:
        (out / name).touch()
    with pytest.raises(OutputExistsError, match="is no model folder and is not replaced"):
        check_replaceable(out, force=True)


def test_a_file_above_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file/model", "file/deep/model"):
        with pytest.raises(OutputExistsError, match=f"{place}: .*/file is no folder"):
            check_replaceable(tmp_path / place, force=True)


@pytest.mark.parametrize("place", [".", "..", "model", "model/inside"])
def test_the_current_folder_is_refused(
    out: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (out / "inside").mkdir(parents=True)
    monkeypatch.chdir(out / "inside")
    place = place if place.startswith(".") else str(out.parent / place)
    with pytest.raises(OutputExistsError, match="is the current folder or above it"):
        check_replaceable(Path(place), force=True)


def test_a_mount_point_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda self: self == out)
    with pytest.raises(OutputExistsError, match="is a mount point"):
        check_replaceable(out, force=False)


def test_settings_are_the_checkpoints_own(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "checkpoint")
    checkpoint = open_checkpoint(source)
    write_settings(checkpoint, checkpoint.generation_config, tmp_path)
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((source / name).read_text())
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "naïve <|endoftext|> 😀"
    assert tokenizer.encode(text).ids == checkpoint.tokenizer.encode(text).ids
    assert tokenizer.to_str() == checkpoint.tokenizer.to_str()


def test_no_generation_config_where_the_checkpoint_has_none(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "checkpoint")
    (source / "generation_config.json").unlink()
    write_settings(open_checkpoint(source), None, tmp_path)
    assert not (tmp_path / "generation_config.json").exists()


def test_the_manifest_lists_files_and_versions(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "empty").touch()
    write_manifest(tmp_path, {"precision": "int8", "source": {"name": "naïve"}})
    content = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    told = content.pop("versions")
    assert told.pop("python") == platform.python_version()
    assert {"gpt2onnx", "onnx"} <= told.keys()
    assert ("torch" in told) == (find_spec("torch") is not None)
    assert told == {name: version(name) for name in told}
    assert content == {
        "format_version": 1,
        "precision": "int8",
        "source": {"name": "naïve"},
        "files": {
            "empty": {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()},
            "model.onnx": {"size": 5, "sha256": hashlib.sha256(b"graph").hexdigest()},
        },
    }


def test_the_runtime_reads_the_same_format() -> None:
    assert folder.FORMAT_VERSION == manifest.FORMAT_VERSION
    assert folder.MANIFEST == manifest.MANIFEST
    assert runtime_folder.GRAPHS[0] == folder.MODEL


@pytest.mark.parametrize("force", [True, False])
def test_the_model_that_a_killed_process_had_moved_aside_comes_back(out: Path, force: bool) -> None:
    left = out.parent / ".model.gpt2onnx-0000000000000000"
    (left / "new").mkdir(parents=True)
    (left / "lock").touch()
    model_folder(left / "old")
    before = tree(left / "old")

    def write() -> None:
        with staged(out, force) as stage:
            assert tree(out) == before
            (stage / "file").write_bytes(b"new")

    if force:
        write()
        assert tree(out.parent) == {"model": None, "model/file": b"new"}
    else:
        with raises(OutputExistsError, path=out):
            write()
        assert tree(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["model"]


def test_another_process_wrote_there_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        out.mkdir()
        (out / "theirs").touch()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(OutputExistsError, match="another process"), staged(out, force=False) as new:
        (new / "ours").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["theirs"]
