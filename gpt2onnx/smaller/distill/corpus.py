"""What a student reads: tokens to learn from, tokens held out, and the batches of each step.

Knows tokens; knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gpt2onnx.errors import PromptError
from gpt2onnx.tokenizer.codec import encode

Ids = NDArray[np.int64]

HELD_OUT_SHARE = 0.05  # of the texts' characters, at their end, where none are given
KEYS = ("stream", "held_out", "ends", "held_out_bytes", "stride", "given")


@dataclass(frozen=True)
class Corpus:
    """Documents' tokens, each behind the model's first token, if it has one.

    `stream` [tokens] are those to learn from, end to end; `held_out` the others, and `ends` where
    each of its documents ends; `held_out_bytes` the length of their text. Texts that a teacher
    wrote have `stride` tokens each, where windows to learn from begin; the first `given` of each
    aren't its own, and neither learned nor judged.
    """

    stream: Ids
    held_out: Ids
    ends: Ids
    held_out_bytes: int
    stride: int = 1
    given: int = 0

    def check(self, positions: int) -> None:
        """Raise PromptError where less than a context is there to learn, or nothing to measure."""
        learned, measured = len(self.stream), len(self.held_out)
        judged = sum(len(piece) - 1 for piece in self.pieces(positions))
        if learned <= positions or not judged or not self.held_out_bytes:
            raise PromptError(
                f"the texts: expected more tokens to learn from than the {positions:,} of a"
                f" context, and some held out, found {learned:,} and {measured:,}; give more"
            )

    def batch(self, rng: np.random.Generator, rows: int, window: int) -> Ids:
        """Windows to learn from, [rows, window + 1]."""
        places = -(-(len(self.stream) - window) // self.stride)
        starts = self.stride * rng.integers(places, size=(rows, 1))
        found: Ids = self.stream[starts + np.arange(window + 1)]
        return found

    def learned(self, rows: int, window: int) -> NDArray[np.int64]:
        """Which of a batch's predictions are learned from, of all [rows * window]."""
        places = np.arange(rows * window).reshape(rows, window)
        found: Ids = places[:, np.arange(1, window + 1) % self.stride >= self.given].ravel()
        return found

    def pieces(self, size: int, most: int | None = None) -> Iterator[Ids]:
        """The documents held out, in pieces of at most `size` + 1 that share one token.

        So each token is predicted once, but for documents' first ones. At most about `most`.
        """
        told = 0
        for document in np.split(self.held_out, self.ends[:-1]):
            for start in range(0, len(document) - 1, size):
                if most is not None and told >= most:
                    return
                yield document[start : start + size + 1]
                told += min(size, len(document) - 1 - start)

    def save(self, path: Path) -> None:
        parts: dict[str, Any] = {key: getattr(self, key) for key in KEYS}
        np.savez(path, **parts)

    @classmethod
    def load(cls, path: Path) -> Corpus:
        with np.load(path, allow_pickle=False) as saved:
            stream, held_out, ends, *numbers = (saved[key] for key in KEYS)
        return cls(stream, held_out, ends, *map(int, numbers))


def of_texts(
    tokenizer: Tokenizer, first: int | None, texts: Sequence[str], held_out: Sequence[str]
) -> Corpus:
    """Of texts to learn from, and of others held out or, without, the end of the former.

    `first` is the token before each. Raises PromptError.
    """
    if not held_out:
        texts, held_out = _split(texts)
    learned, measured = (
        [_ids(tokenizer, first, text) for text in some if text] for some in (texts, held_out)
    )
    return of_ids(learned, measured, sum(len(text.encode()) for text in held_out))


def of_ids(learned: Iterable[Ids], measured: Sequence[Ids], held_out_bytes: int) -> Corpus:
    nothing = np.empty(0, np.int64)
    return Corpus(
        stream=np.concatenate([nothing, *learned]),
        held_out=np.concatenate([nothing, *measured]),
        ends=np.cumsum([len(ids) for ids in measured], dtype=np.int64),
        held_out_bytes=held_out_bytes,
    )


def _split(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The texts without their end, and that."""
    kept, end = list(texts), []
    wanted = math.ceil(HELD_OUT_SHARE * sum(map(len, texts)))
    while wanted > 0 and kept:
        text = kept.pop()
        cut = max(len(text) - wanted, 0)
        end.append(text[cut:])
        wanted -= len(text) - cut
        if cut:
            kept.append(text[:cut])
    return kept, end[::-1]


def _ids(tokenizer: Tokenizer, first: int | None, text: str) -> Ids:
    before = [] if first is None else [first]
    return np.array([*before, *encode(tokenizer, text)], np.int64)
