"""Text to ids and ids to text; the library's errors become this package's."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from gpt2onnx.errors import Gpt2OnnxError, ModelFolderError, PromptError
from gpt2onnx.tokenizer.library import library_errors, raise_named


def encode(tokenizer: Tokenizer, text: str, error: type[Gpt2OnnxError] = PromptError) -> list[int]:
    """A text's ids. Raises `error` where the tokenizer can't, for want of <unk>."""
    with library_errors(error, "the model's tokenizer can't read the text"):
        ids: list[int] = tokenizer.encode(text).ids
    return ids


def decode(tokenizer: Tokenizer, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
    """The text of ids. Raises ModelFolderError where the tokenizer can't write them."""
    try:
        text: str = tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
    except BaseException as cause:
        raise_named(cause, ModelFolderError, "the model's tokenizer can't write its tokens")
    return text


def decode_each(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The text of each id by itself, special ones too. Raises as `decode` does."""
    with library_errors(ModelFolderError, "the model's tokenizer can't write its tokens"):
        texts: list[str] = tokenizer.decode_batch(
            [[index] for index in ids], skip_special_tokens=False
        )
    return texts
