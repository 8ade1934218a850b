"""A model's chat template: messages become the text that the model was taught to go on from.

As transformers renders it (https://huggingface.co/docs/transformers/chat_templating), in Jinja's
sandbox: a template is somebody else's program.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gpt2onnx.errors import ModelFolderError, RequestError
from gpt2onnx.files import read_json, read_text

MOST_BYTES = 1_000_000


class ChatTemplate:
    """A template with the special tokens that it may name."""

    def __init__(self, source: str, tokens: Mapping[str, str], place: Path) -> None:
        """Raises ModelFolderError for one that Jinja can't read."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _as_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        self.source, self._tokens = source, dict(tokens)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelFolderError(f"{place}: the chat template is none: {error}") from None

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> str:
        """The prompt's text. Raises RequestError for messages that the template refuses."""
        try:
            return self._template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **self._tokens
            )
        except RequestError:
            raise
        except Exception as error:  # whatever a template's own expressions raise
            raise RequestError(
                f"the model's chat template refuses the messages: {error}",
                param="messages",
                code="invalid_messages",
            ) from None


def find_template(folder: Path) -> ChatTemplate | None:
    """A model folder's template, if it has one. Raises ModelFolderError for a damaged one."""
    settings_file, file = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    settings: dict[str, Any] = {}
    if settings_file.exists():
        settings = read_json(settings_file, ModelFolderError)
    if file.exists():
        source: Any = read_text(file, ModelFolderError, MOST_BYTES)
    else:
        source = settings.get("chat_template")
    if isinstance(source, list):  # several by their names
        named = {e.get("name"): e.get("template") for e in source if isinstance(e, dict)}
        source = named.get("default")
    if source is None:
        return None
    if not isinstance(source, str):
        raise ModelFolderError(f"{settings_file}: chat_template is no text")
    tokens = {name: _content(value) for name, value in settings.items() if name.endswith("_token")}
    return ChatTemplate(source, {n: t for n, t in tokens.items() if t is not None}, folder)


def _content(token: Any) -> str | None:
    """A special token's text, as tokenizer_config.json has it."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _as_json(value: Any, ensure_ascii: bool = False, **more: Any) -> str:
    """Jinja's own writes HTML's entities."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **more)


def _refuse(message: object) -> None:
    raise RequestError(
        f"the model's chat template refuses the messages: {message}",
        param="messages",
        code="invalid_messages",
    )


def _now(form: str) -> str:
    return datetime.now().strftime(form)
