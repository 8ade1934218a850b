"""Opens tokenizer.json, and checks it before it is used."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer

from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.files import json_object, read_text, unusable
from gpt2onnx.tokenizer.library import library_errors
from gpt2onnx.tokenizer.parts import is_plain, require_bounded, template_ids

# GPT-2's has 2 MB, the largest vocabularies of 256,000 tokens 35.
MAX_BYTES = 50_000_000


def read_tokenizer_json(path: Path, error: type[Gpt2OnnxError]) -> str:
    """A tokenizer.json's text. Raises `error`, as `files.read_text` does."""
    return read_text(path, error, MAX_BYTES)


def tokenizer_of(text: str, name: object, error: type[Gpt2OnnxError]) -> Tokenizer:
    """The Tokenizer of a tokenizer.json, which neither cuts nor pads. Raises `error`."""
    path = name if isinstance(name, Path) else None
    with library_errors(error, f"{name}: can't be read as a tokenizer", path):
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_truncation()
        tokenizer.no_padding()
    return tokenizer


def require_harmless(text: str, name: object, error: type[Gpt2OnnxError]) -> None:
    """Raise `error` for a tokenizer.json that kills a process, or never ends.

    One with patterns, tables or templates of its own is tried in another process.
    """
    parts = json_object(text.encode(), name, error)
    require_bounded(parts, name, error)
    if is_plain(parts):
        return
    from gpt2onnx.tokenizer.trial import failure  # few need it

    if wrong := failure(text):
        raise unusable(error, name, f"expected a tokenizer that can be used, but {wrong}")


def largest_id(tokenizer: Tokenizer) -> tuple[int, str]:
    """The largest id that a tokenizer gives, and the token's name; -1 where it has no token.

    Of a vocabulary of 50,000 tokens this takes 30 ms.
    """
    added = tokenizer.get_added_tokens_decoder().items()
    processor = tokenizer.post_processor
    template = json.loads(processor.__getstate__()) if processor else None
    found = chain(
        ((index, token) for token, index in tokenizer.get_vocab().items()),
        ((index, token.content) for index, token in added),
        template_ids(template),
    )
    return max(found, default=(-1, ""))


def require_ids(
    largest: tuple[int, str], vocab_size: int, name: object, error: type[Gpt2OnnxError]
) -> None:
    """Raise `error` for a tokenizer with ids beyond the model's, or without any.

    Fewer are common: vocabularies get padded.
    """
    index, token = largest
    if index < 0:
        raise unusable(error, name, "expected a vocabulary, found a tokenizer without any token")
    if index >= vocab_size:
        raise error(
            f"{name}: the tokenizer's id {index}, {token!r:.100}, is beyond the model's vocab_size"
            f" {vocab_size}; take that token out of the tokenizer's files, or give the model a row"
            " for it by resize_token_embeddings()",
            name=token,
        )
