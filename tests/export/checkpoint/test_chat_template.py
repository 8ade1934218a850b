"""A checkpoint's chat template comes along, and a damaged one stops the export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx import export
from gpt2onnx.errors import TokenizerError
from gpt2onnx.export.checkpoint.chat_template import read_chat_template
from tests.checkpoints import make_checkpoint
from tests.raising import raises


def test_none_leaves_no_file(tmp_path: Path) -> None:
    folder = export(make_checkpoint(tmp_path / "a"), tmp_path / "b", verify=False).folder
    assert not (folder / "chat_template.jinja").exists()
    assert not (folder / "tokenizer_config.json").exists()


def test_its_bytes_come_along(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "a")
    content = "{{ messages }}\r\n\té".encode()
    (source / "chat_template.jinja").write_bytes(content)
    (source / "tokenizer_config.json").write_text('{"eos_token": {"content": "e"}}')
    (source / "special_tokens_map.json").unlink()
    folder = export(source, tmp_path / "b", verify=False).folder
    assert (folder / "chat_template.jinja").read_bytes() == content
    named = json.loads((folder / "tokenizer_config.json").read_text())
    assert (named["eos_token"], named["bos_token"]) == ("e", "<|endoftext|>")


@pytest.mark.parametrize("template", [3, [{"name": "default", "template": 3}], {"a": 1}])
def test_what_is_no_template(tmp_path: Path, template: Any) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    with pytest.raises(TokenizerError, match="expected chat_template to be a text"):
        read_chat_template(tmp_path)


@pytest.mark.parametrize("template", [None, [], [{"name": "rag", "template": "x"}]])
def test_none_that_is_taken(tmp_path: Path, template: Any) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert read_chat_template(tmp_path) is None


def test_one_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with raises(TokenizerError, path=tmp_path / "chat_template.jinja"):
        read_chat_template(tmp_path)
