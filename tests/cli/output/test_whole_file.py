from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gpt2onnx.cli.output.whole_file import WholeFile
from gpt2onnx.errors import ParameterError, StorageError
from tests.raising import raises


def test_a_file_is_made_or_replaced_and_nothing_else_left(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    for content in ("first\n", "<é>"):
        WholeFile("html", str(path)).write(content)
        assert path.read_bytes() == content.encode()
    assert list(tmp_path.iterdir()) == [path]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")
    path.chmod(0o640)
    WholeFile("html", str(path)).write("after")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("after", 0o640)


def test_half_a_surrogate_pair_is_written_as_its_number(tmp_path: Path) -> None:
    WholeFile("html", str(tmp_path / "page.html")).write("a\udcff")
    assert (tmp_path / "page.html").read_bytes() == b"a\\udcff"


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_a_name_as_long_as_one_can_be(tmp_path: Path, name: str) -> None:
    WholeFile("html", str(tmp_path / name)).write("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("path", ["x" * 256, "a\0b", "x/" * 5000])
def test_names_that_no_file_can_have(path: str) -> None:
    with pytest.raises(ParameterError, match="name"):
        WholeFile("html", path)


def test_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with raises(StorageError, path=tmp_path / "loop"):
        WholeFile("html", str(tmp_path / "loop")).write("x")


def test_a_link_stays_one(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "page.html")
    WholeFile("html", str(link)).write("x")
    assert link.is_symlink()
    assert (tmp_path / "page.html").read_text() == "x"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", "expected a file, this is a folder"),
        ("/dev/null", "a device or a pipe"),
        ("none/page.html", "there is no folder .*none; create it first"),
    ],
)
def test_where_no_file_can_be(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=f"html={path}: .*{message}"):
        WholeFile("html", path)


def test_a_folder_that_cant_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ParameterError, match="can't be written to"):
        WholeFile("html", str(tmp_path / "page.html"))


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")
    file = WholeFile("html", str(path))

    def full(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match=r"page\.html: No space left on device"):
        file.write("after")
    monkeypatch.undo()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
