"""Checkpoint and texts in, a checkpoint with fewer tokens out.

Embedding and head lose rows and nothing else changes: logits of a token that is kept are the
original's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import ExportError, Given, ParameterError, PromptError, TokenizerError
from gpt2onnx.export.checkpoint.checkpoint import HEAD, Checkpoint
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.writing.folder import check_replaceable
from gpt2onnx.export.writing.progress import Track, bar, silent
from gpt2onnx.files import as_path, json_object
from gpt2onnx.smaller.checkpoint import (
    NewCheckpoint,
    json_bytes,
    open_source,
    tokenizer_files,
    weights_bytes,
    with_options,
)
from gpt2onnx.smaller.trim import tokenizer_json
from gpt2onnx.smaller.trim.merges import Merges
from gpt2onnx.smaller.trim.named_ids import ids_in, with_new_ids
from gpt2onnx.smaller.trim.vocabulary import Vocabulary
from gpt2onnx.tokenizer.codec import encode

TABLE = "token_ids.json"
# Tokens a character, from which on a tokenizer is read against its grain: English takes a quarter.
FOREIGN = 0.8


@dataclass(frozen=True)
class Trimmed:
    """What a trim made; bytes are the weights'. `text_tokens` are the texts' before it."""

    folder: Path
    tokens: int
    tokens_before: int
    size: int
    size_before: int
    text_tokens: int
    kept_tokens: int
    note: str

    def __str__(self) -> str:
        return (
            f"{self.folder}: {self.tokens:,} of {self.tokens_before:,} tokens, "
            f"{self.kept_tokens / self.text_tokens:.2%} of the {self.text_tokens:,} in the text; "
            f"{self.size / 1e6:.1f} of {self.size_before / 1e6:.1f} MB"
        )


@dataclass(frozen=True)
class FewerRows:
    """A checkpoint's weights with some rows of embedding and head; see `Weights`."""

    checkpoint: Checkpoint
    config: Gpt2Config
    rows: NDArray[np.int64]

    def tensor(self, name: str) -> NDArray[np.float32]:
        values = self.checkpoint.tensor(name)
        return values[self.rows] if name in ("wte.weight", HEAD) else values


def trim(
    source: str | Path,
    out: str | Path,
    texts: Sequence[str],
    *,
    size: int | None = None,
    min_count: int | None = None,
    revision: str | None = None,
    progress: bool = False,
) -> Trimmed:
    """Write a checkpoint with the tokens that texts like these use.

    All 256 bytes stay, special and added tokens, those that the settings name, and whatever the
    merges of those that stay go through. So any text can be tokenized, and one whose tokens were
    all kept into the very same. size: so many tokens, the most used ones. min_count: those that the
    texts use as often; by default once. token_ids.json has the new id of each old one.

    Raises CheckpointError and its kinds, ExportError and its kinds, ParameterError, and PromptError
    where the texts hold no token.
    """
    _check_counts(size, min_count)
    out = as_path(out, "out", ExportError)
    check_replaceable(out, force=None)
    track = bar if progress else silent
    checkpoint = open_source(source, revision)
    content = json.loads(checkpoint.tokenizer.to_str())
    tokenizer_json.require_byte_level(content, source)
    counts = _count(checkpoint, texts, track)
    vocabulary = _vocabulary(checkpoint, content)
    if size is not None:
        kept = vocabulary.most_used(counts, size)
    else:
        kept = vocabulary.used(counts, min_count or 1)
    new_ids = _new_ids(kept, content)
    made = _made(checkpoint, content, new_ids)
    made.write(out, track)
    total = int(counts.sum())
    return Trimmed(
        folder=out,
        tokens=len(kept),
        tokens_before=checkpoint.config.vocab_size,
        size=weights_bytes(made.weights.config, made.dtype),
        size_before=weights_bytes(checkpoint.config, made.dtype),
        text_tokens=total,
        kept_tokens=int(counts[list(kept)].sum()),
        note=_note(sum(map(len, texts)), total),
    )


def _check_counts(size: int | None, min_count: int | None) -> None:
    for name, value in (("size", size), ("min_count", min_count)):
        if value is not None and (type(value) is not int or value < 1):
            raise ParameterError(Given(name, value), ": expected an integer of at least 1")
    if size is not None and min_count is not None:
        raise ParameterError(
            *(Given("size", size), " and ", Given("min_count", min_count)),
            " each say how many tokens stay; leave one out",
        )


def _count(checkpoint: Checkpoint, texts: Sequence[str], track: Track) -> NDArray[np.int64]:
    """How often the texts use each token: [vocab]."""
    counts = np.zeros(checkpoint.config.vocab_size, np.int64)
    for text in track(texts, "reading texts"):
        ids = np.array(encode(checkpoint.tokenizer, text), np.int64)
        counts += np.bincount(ids, minlength=len(counts))
    if not counts.any():
        raise PromptError("the text holds no token; give one like those to come")
    return counts


def _vocabulary(checkpoint: Checkpoint, content: Mapping[str, Any]) -> Vocabulary:
    tokens = {index: token for token, index in checkpoint.tokenizer.get_vocab().items()}
    named = ids_in(checkpoint.config_json) | ids_in(checkpoint.generation_config or {})
    must = {
        *tokenizer_json.named_ids(content),
        *(index for index in named if 0 <= index < checkpoint.config.vocab_size),
    }
    return Vocabulary(tokens, Merges(tokenizer_json.merges_of(content)), must)


def _new_ids(kept: set[int], content: Mapping[str, Any]) -> dict[int, int]:
    """New ids by old ones: in the same order, as far as the tokenizers library allows.

    It numbers added tokens behind the model's own. Rows without a token come last.
    """
    own = set(content["model"]["vocab"].values())
    added = {token["id"] for token in content["added_tokens"]}
    order = sorted(kept, key=lambda index: (index not in own, index not in added, index))
    return {old: new for new, old in enumerate(order)}


def _made(
    checkpoint: Checkpoint, content: Mapping[str, Any], new_ids: Mapping[int, int]
) -> NewCheckpoint:
    def new_id(index: int) -> int:
        return new_ids.get(index, index)  # one beyond the vocabulary stays there

    config_json = with_options(
        with_new_ids(checkpoint.config_json, new_id), vocab_size=len(new_ids)
    )
    generation_config = checkpoint.generation_config
    weights = FewerRows(
        checkpoint, Gpt2Config.from_json(config_json), np.array(list(new_ids), np.int64)
    )
    return NewCheckpoint(
        weights,
        checkpoint.dtype,
        config_json,
        None if generation_config is None else with_new_ids(generation_config, new_id),
        _files(checkpoint, tokenizer_json.trimmed(content, new_ids), new_ids),
    )


def _files(
    checkpoint: Checkpoint, content: Mapping[str, Any], new_ids: Mapping[int, int]
) -> dict[str, bytes]:
    """The tokenizer's files, as many as there were, tokenizer.json, and the table of ids."""
    files = tokenizer_files(checkpoint.folder)
    both = dict(tokenizer_json.vocab_and_merges(content))
    files |= {name: both[name] for name in both.keys() & files.keys()}
    for name in ("tokenizer_config.json", "added_tokens.json"):
        if name in files:
            read = json_object(files[name], name, TokenizerError)
            files[name] = json_bytes(_declared(name, read, checkpoint, new_ids))
    table = {str(old): new for old, new in sorted(new_ids.items())}
    return files | {"tokenizer.json": json_bytes(content), TABLE: json_bytes(table)}


def _declared(
    name: str, content: dict[str, Any], checkpoint: Checkpoint, new_ids: Mapping[int, int]
) -> dict[str, Any]:
    """Settings that give added tokens their ids."""
    if name == "added_tokens.json":
        old_ids = {token: checkpoint.tokenizer.token_to_id(token) for token in content}
        # Those that tokenizer_config.json doesn't have, too, the tokenizer doesn't know.
        return {token: new_ids[old] for token, old in old_ids.items() if old is not None}
    if "added_tokens_decoder" not in content:
        return content
    declared = content["added_tokens_decoder"]
    return {
        **content,
        "added_tokens_decoder": {
            str(new_ids[int(index)]): token for index, token in declared.items()
        },
    }


def _note(characters: int, tokens: int) -> str:
    if tokens < FOREIGN * characters:
        return ""
    return (
        f"the text takes {tokens / characters:.2f} tokens a character: it seems to be of another "
        "language or kind than the tokenizer's, of which little is used then"
    )
