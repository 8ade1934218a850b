from __future__ import annotations

from pathlib import Path

import pytest

from gpt2onnx.errors import CheckpointError, TokenizerError
from gpt2onnx.export.json_file import read_json


def test_reads_an_object(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": "é"}', encoding="utf-8")
    assert read_json(tmp_path / "x.json") == {"a": "é"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1, column 1"),
        (b'{\n "a": 1,,\n}', "line 2, column 9"),
        (b"[1]", "found a list"),
        (b"null", "found a NoneType"),
        (b'{"a": "\xff"}', "JSON in UTF-8"),
        (b"1" * 10_000, "JSON in UTF-8"),
        (b"[" * 1_000_000, "JSON in UTF-8"),
    ],
)
def test_anything_else_raises_the_callers_error(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=rf"x\.json: expected .*{message}") as raised:
        read_json(tmp_path / "x.json", TokenizerError)
    assert "\n" not in str(raised.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x\.json: can't be read: No such file"):
        read_json(tmp_path / "x.json")
