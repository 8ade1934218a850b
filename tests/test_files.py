"""What may be read of somebody else's file, and what is said where it may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpt2onnx.errors import Gpt2OnnxError, ParameterError
from gpt2onnx.files import (
    as_path,
    decoded,
    json_object,
    open_regular,
    path_errors,
    read_bytes,
    read_json,
    read_text,
)
from tests.raising import raises

STATUS = Path("/proc/self/status")  # of 0 bytes, as its size has it


class RefusedError(Gpt2OnnxError):
    """Whatever error the caller asks for."""


@pytest.mark.parametrize("value", [None, 3, b"x", "a\0b", "\ud800"])
def test_what_is_no_path(value: object) -> None:
    with pytest.raises(RefusedError, match="folder: expected a path, got"):
        as_path(value, "folder", RefusedError)


def test_a_path_stays_as_it_is() -> None:
    assert (
        as_path(Path("a"), "folder", RefusedError)
        == as_path("a", "folder", RefusedError)
        == Path("a")
    )
    undecodable = os.fsdecode(b"\xff")
    assert as_path(undecodable, "folder", RefusedError) == Path(undecodable)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_whatever_is_no_regular_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(RefusedError, match=f"expected a file, found a {kind}"):
        read_text(path, RefusedError)


def test_a_device() -> None:
    with pytest.raises(RefusedError, match="/dev/zero: expected a file, found a device"):
        read_text(Path("/dev/zero"), RefusedError)


def test_a_file_is_opened_for_reading(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    with open_regular(tmp_path / "file", RefusedError) as file:
        assert file.read() == b"abc"


def test_a_size_beyond_the_bound_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(
        RefusedError, match="expected at most 100,000,000 bytes, found 1,099,511,627,776"
    ):
        read_text(tmp_path / "sparse", RefusedError)


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")
def test_a_file_that_holds_more_than_it_says() -> None:
    with raises(RefusedError, path=STATUS, found=11, expected=10):
        read_bytes(STATUS, RefusedError, most=10)


def test_what_the_system_says(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="File name too long") as caught:
        read_text(tmp_path / ("x" * 5000), RefusedError)
    assert len(str(caught.value)) < 500
    with (
        pytest.raises(RefusedError, match="missing: No such file or directory; look again"),
        path_errors("missing", RefusedError, "look again"),
    ):
        Path("missing").stat()


def test_a_librarys_own_error_stays() -> None:
    with pytest.raises(OSError, match="own"), path_errors("x", RefusedError):
        raise OSError("own")


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('\ufeff{"a": "\ufeff"}', encoding="utf-8")
    assert read_json(tmp_path / "file", RefusedError) == {"a": "\ufeff"}


def test_what_is_no_utf8() -> None:
    with pytest.raises(
        RefusedError, match="name: expected UTF-8, found something else: byte 1 is 0xff"
    ):
        decoded(b"a\xff", "name", RefusedError)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "a mistake at line 1, column 2"),
        (b"[1]", "expected a JSON object, found a list"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "expected JSON, found something else"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
    ],
)
def test_what_is_no_json_object(content: bytes, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        json_object(content, "name", RefusedError)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert json_object(b'{"a": "\\ud83d\\ude00"}', "name", RefusedError) == {"a": "\U0001f600"}


def test_a_message_is_one_line_of_printable_characters() -> None:
    error = ParameterError("a\x1b[31m\n  b\r\n\nc \ud800 \u202e é")
    assert str(error) == r"a\x1b[31m b c \ud800 \u202e é"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_named(encoding: str) -> None:
    content = "\ufeffé" if encoding == "utf-16-be" else "é"
    with pytest.raises(RefusedError, match="expected UTF-8, found UTF-16; save it as UTF-8"):
        decoded(content.encode(encoding), "name", RefusedError)
