"""What a student reads: tokens to learn from, tokens held out, and the batches of each step.

Knows tokens; knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gpt2onnx.errors import PromptError
from gpt2onnx.tokenizer.codec import encode

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

HELD_OUT_SHARE = 0.05  # of the texts' characters, at their end, where none are given
KEYS = ("stream", "learned", "held_out", "judged", "ends", "held_out_bytes", "stride")


class Text(NamedTuple):
    """Ids, and of which of them a student is to learn, or is judged by, the prediction."""

    ids: Ids  # [n]
    own: Mask  # [n]

    @classmethod
    def whole(cls, ids: Ids) -> Text:
        return cls(ids, np.ones(len(ids), np.bool_))


@dataclass(frozen=True)
class Corpus:
    """Documents' tokens, each behind the model's first token, if it has one.

    `stream` [tokens] are those to read, end to end, of which the `learned` are to be foreseen;
    `held_out` the others, and the `judged` of them; `ends` where each of those documents ends;
    `held_out_bytes` the length of the judged ones' text. Windows to learn from begin every `stride`
    tokens, where each text does that a teacher wrote.
    """

    stream: Ids
    learned: Mask
    held_out: Ids
    judged: Mask
    ends: Ids
    held_out_bytes: int
    stride: int = 1

    def check(self, positions: int) -> None:
        """Raise PromptError where less than a context is there to learn, or nothing to measure."""
        learned, measured = len(self.stream), len(self.held_out)
        judged = sum(np.count_nonzero(piece.own[1:]) for piece in self.pieces(positions))
        if learned <= positions or not judged or not self.held_out_bytes:
            raise PromptError(
                f"the texts: expected more tokens to learn from than the {positions:,} of a"
                f" context, and some held out, found {learned:,} and {measured:,}; give more"
            )

    def batch(self, rng: np.random.Generator, rows: int, window: int) -> tuple[Ids, Ids]:
        """Windows to learn from [rows, window + 1], and the places of the predictions that are
        learned, among all [rows * window].
        """
        count = -(-(len(self.stream) - window) // self.stride)
        starts = self.stride * rng.integers(count, size=(rows, 1))
        places = starts + np.arange(window + 1)
        return self.stream[places], np.flatnonzero(self.learned[places[:, 1:]])

    def pieces(self, size: int, most: int | None = None) -> Iterator[Text]:
        """The documents held out, in pieces of at most `size` + 1 that share one token.

        So each token is predicted once, but for documents' first ones. At most about `most`.
        """
        told = 0
        for begin, end in pairwise([0, *self.ends.tolist()]):
            for start in range(begin, end - 1, size):
                if most is not None and told >= most:
                    return
                piece = slice(start, min(start + size + 1, end))
                yield Text(self.held_out[piece], self.judged[piece])
                told += piece.stop - start - 1

    def save(self, path: Path) -> None:
        parts: dict[str, Any] = {key: getattr(self, key) for key in KEYS}
        np.savez(path, **parts)

    @classmethod
    def load(cls, path: Path) -> Corpus:
        with np.load(path, allow_pickle=False) as saved:
            stream, learned, held_out, judged, ends, *numbers = (saved[key] for key in KEYS)
        return cls(stream, learned, held_out, judged, ends, *map(int, numbers))


def of_texts(
    tokenizer: Tokenizer, first: int | None, texts: Sequence[str], held_out: Sequence[str]
) -> Corpus:
    """Of texts to learn from, and of others held out or, without, the end of the former.

    `first` is the token before each. Raises PromptError.
    """
    if not held_out:
        texts, held_out = _split(texts)
    learned, measured = (
        [Text.whole(_ids(tokenizer, first, text)) for text in some if text]
        for some in (texts, held_out)
    )
    return end_to_end(learned, measured, sum(len(text.encode()) for text in held_out))


def end_to_end(
    learned: Iterable[Text], measured: Sequence[Text], held_out_bytes: int, stride: int = 1
) -> Corpus:
    return Corpus(
        *_joined(learned),
        *_joined(measured),
        ends=np.cumsum([len(text.ids) for text in measured], dtype=np.int64),
        held_out_bytes=held_out_bytes,
        stride=stride,
    )


def _joined(texts: Iterable[Text]) -> Text:
    ids, own = zip(Text.whole(np.empty(0, np.int64)), *texts, strict=True)
    return Text(np.concatenate(ids), np.concatenate(own))


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
