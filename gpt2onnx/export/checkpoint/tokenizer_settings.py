"""A checkpoint's tokenizer settings beside tokenizer.json, from up to four files.

Knows transformers' names, and which file has its say where; knows nothing of ids in a vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from gpt2onnx.errors import TokenizerError
from gpt2onnx.files import path_errors, read_json

END_OF_TEXT = "<|endoftext|>"

SPECIAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
"""The settings that name a special token, in the order in which transformers adds them."""

GPT2_DEFAULTS = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
"""What GPT2Tokenizer has for those that no file names; null in a file names none."""

FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


class TokenizerSettings:
    """The settings of one checkpoint. Raises TokenizerError for values of other types."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = self._read_files()
        self.tokenizer_class = self._text("tokenizer_class") or "GPT2Tokenizer"
        self.add_prefix_space = self._switch("add_prefix_space")
        self.add_bos_token = self._switch("add_bos_token")
        self.overrules = "added_tokens_decoder" in self._read

    @property
    def is_gpt2(self) -> bool:
        """GPT2Tokenizer is also what transformers takes for a GPT-2 that names no class."""
        return self.tokenizer_class in ("GPT2Tokenizer", "GPT2TokenizerFast")

    @property
    def bos_token(self) -> str | None:
        value = self._read.get("bos_token", END_OF_TEXT)
        return None if value is None else self._token("bos_token", value).content

    def special_tokens(self) -> list[tuple[AddedToken, bool]]:
        """The special tokens, each with whether a file names it, in transformers' order."""
        defaults = GPT2_DEFAULTS if self.is_gpt2 else {}
        single = [(name, self._read.get(name, defaults.get(name))) for name in SPECIAL_TOKENS]
        several = [
            (name, value)
            for name in ("additional_special_tokens", "extra_special_tokens")
            for value in self._several(name)
        ]
        tokens = [
            (self._token(name, value), name in self._read)
            for name, value in (*single, *several)
            if value is not None
        ]
        for token, _ in tokens:
            token.special = True
        return tokens

    def named_tokens(self) -> dict[str, str]:
        """The special tokens' texts by their names."""
        defaults = GPT2_DEFAULTS if self.is_gpt2 else {}
        found = {name: self._read.get(name, defaults.get(name)) for name in SPECIAL_TOKENS}
        return {
            name: self._token(name, value).content
            for name, value in found.items()
            if value is not None
        }

    def declared_tokens(self, known: set[str]) -> list[tuple[int, AddedToken]]:
        """The tokens that the settings give ids, by id. Older files don't change those `known`."""
        if self.overrules:
            declared = self._mapping("added_tokens_decoder")
            tokens = [
                (self._id("added_tokens_decoder", index), self._token(f"token {index}", value))
                for index, value in declared.items()
            ]
        else:
            tokens = [
                (self._id("added_tokens.json", index), AddedToken(name))
                for name, index in self._read["added_tokens"].items()
                if name not in known
            ]
        return sorted(tokens, key=lambda each: each[0])

    def _read_files(self) -> dict[str, Any]:
        """tokenizer_config.json and, where it leaves them their say, the older files beside it."""
        settings = self._optional("tokenizer_config.json")
        if settings.get("split_special_tokens"):
            raise TokenizerError(
                f"{self._folder}: tokenizer_config.json sets split_special_tokens, which the"
                " exported tokenizer.json can't hold; set it to false",
                path=self._folder,
                name="split_special_tokens",
            )
        if not settings.get("tokenizer_class"):
            settings["tokenizer_class"] = self._optional("config.json").get("tokenizer_class")
        if "added_tokens_decoder" not in settings:
            name = "additional_special_tokens"
            additional = settings.get(name) or []
            settings |= self._optional("special_tokens_map.json")
            both = (additional, settings.get(name) or [])
            if all(isinstance(each, list) for each in both):
                settings[name] = [*both[0], *both[1]]
            settings["added_tokens"] = self._optional("added_tokens.json")
        return settings

    def _optional(self, name: str) -> dict[str, Any]:
        path = self._folder / name
        with path_errors(path, TokenizerError):
            there = path.exists()
        return read_json(path, TokenizerError) if there else {}

    def _text(self, name: str) -> str | None:
        value = self._read.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(name, "a text", value)

    def _switch(self, name: str) -> bool:
        value = self._read.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self._wrong(name, "true or false", value)

    def _mapping(self, name: str) -> Mapping[str, Any]:
        value = self._read[name]
        if isinstance(value, dict):
            return value
        raise self._wrong(name, "an object", value)

    def _several(self, name: str) -> list[Any]:
        """A list of tokens; newer files have an object of them, by the names of their attributes.

        transformers 4 writes the object, 5 the list.
        """
        value = self._read.get(name) or []
        if isinstance(value, dict):
            return list(value.values())
        if isinstance(value, list):
            return value
        raise self._wrong(name, "a list of tokens", value)

    def _id(self, name: str, value: Any) -> int:
        text = str(value) if isinstance(value, int | str) else ""
        if text.isascii() and text.isdecimal() and len(text) < 11 and not isinstance(value, bool):
            return int(text)
        raise self._wrong(name, "token ids", value)

    def _token(self, name: str, value: Any) -> AddedToken:
        if isinstance(value, str):
            return AddedToken(value, special=True)
        if not isinstance(value, dict) or not isinstance(value.get("content"), str):
            raise self._wrong(name, "a token, as a text or with its content", value)
        flags = {flag: value[flag] for flag in (*FLAGS, "special") if flag in value}
        if not all(isinstance(flag, bool) for flag in flags.values()):
            raise self._wrong(name, "flags that are true or false", value)
        return AddedToken(value["content"], **{"special": False, **flags})

    def _wrong(self, name: str, wanted: str, value: Any) -> TokenizerError:
        return TokenizerError(
            f"{self._folder}: the tokenizer's settings have {name}: expected {wanted}, found"
            f" {value!r:.100}",
            path=self._folder,
            name=name,
        )
