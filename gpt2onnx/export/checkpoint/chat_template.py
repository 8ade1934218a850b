"""A checkpoint's chat template, and the special tokens that it may name.

Where transformers looks for it: chat_template.jinja, or else tokenizer_config.json's chat_template.
Knows nothing of what is in a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2onnx.errors import TokenizerError
from gpt2onnx.export.checkpoint.tokenizer_settings import TokenizerSettings
from gpt2onnx.files import path_errors, read_json, read_text

CHAT_TEMPLATE = "chat_template.jinja"
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class ChatTemplate:
    """A template's text; special tokens' texts by transformers' names."""

    text: str
    tokens: Mapping[str, str]


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """The template that chats take, if there is one. Raises TokenizerError."""
    text = _text(folder)
    return None if text is None else ChatTemplate(text, TokenizerSettings(folder).named_tokens())


def _text(folder: Path) -> str | None:
    own, settings = folder / CHAT_TEMPLATE, folder / "tokenizer_config.json"
    with path_errors(folder, TokenizerError):
        has_own, has_settings = own.exists(), settings.exists()
    if has_own:
        return read_text(own, TokenizerError, MAX_BYTES)
    found = read_json(settings, TokenizerError).get("chat_template") if has_settings else None
    if isinstance(found, list):
        found = _default(found)
    if found is None or isinstance(found, str):
        return found
    raise TokenizerError(
        f"{settings}: expected chat_template to be a text, or a list of named ones, found"
        f" {found!r:.100}",
        path=settings,
        name="chat_template",
    )


def _default(several: list[Any]) -> Any:
    """Of several named templates the one that is taken where none is asked for."""
    named = {each.get("name"): each.get("template") for each in several if isinstance(each, dict)}
    return named.get("default")
