"""Where the tokens of some reads stand in a run, and which of them are asked for what.

Steps of the same rows have one layout, and so have drafts of one length.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.decoder.protocol import EVERY, Ids, Read

Kind: TypeAlias = tuple[object, ...]


class Layout:
    """The layout of reads that share a run, their tokens end to end.

    `inputs` are the graph's that it decides: `rows` [tokens], `logits_index` [wanted], `top_index`
    [choices], `temperatures` and `outside` [choices]. `spans` are each read's part of what is
    wanted.
    """

    def __init__(self, reads: Sequence[Read]) -> None:
        self._counts = [len(each.ids) for each in reads]
        self._offsets = np.concatenate([np.arange(count) for count in self._counts])
        starts = accumulate(self._counts, initial=0)
        wanted = [
            np.arange(start, start + count)[EVERY if each.hidden else each.wanted]
            for each, start, count in zip(reads, starts, self._counts, strict=False)
        ]
        ends = accumulate(map(len, wanted), initial=0)
        self.spans = [slice(start, end) for start, end in pairwise(ends)]
        self.inputs: dict[str, NDArray[Any]] = {
            "rows": self._spread([each.row.index for each in reads]),
            "logits_index": np.concatenate(wanted),
            **_choices(reads, self.spans),
        }
        self.wanted, self.choices = (
            len(self.inputs[name]) for name in ("logits_index", "top_index")
        )

    def slots(self, reads: Sequence[Read]) -> Ids:  # -> [tokens]
        """Each token's place in its row, behind those that the row holds."""
        lengths = [each.row.length for each in reads]
        slots: Ids = self._offsets + (lengths[0] if len(reads) == 1 else self._spread(lengths))
        return slots

    def _spread(self, of_reads: Sequence[int]) -> Ids:  # [reads] -> [tokens]
        return np.repeat(of_reads, self._counts)


def kind_of(reads: Sequence[Read]) -> Kind:
    """All of some reads that their layout depends on: those of one kind share it."""
    return tuple(map(_kind, reads))


def _kind(read: Read) -> Kind:
    wanted, count = read.wanted, len(read.ids)
    places = wanted.indices(count) if isinstance(wanted, slice) else wanted.tobytes()
    return read.row.index, count, places, read.hidden, read.temperature, read.outside


def _choices(reads: Sequence[Read], spans: Sequence[slice]) -> dict[str, NDArray[Any]]:
    """Behind which of the wanted a choice follows, and what is asked of it."""
    chosen = [
        (np.arange(span.start, span.stop), each)
        for each, span in zip(reads, spans, strict=True)
        if each.temperature is not None
    ]
    counts = [len(places) for places, _ in chosen]
    nothing = np.empty(0, np.int64)
    return {
        "top_index": np.concatenate([nothing, *(places for places, _ in chosen)]),
        "temperatures": np.repeat([each.temperature for _, each in chosen], counts),
        "outside": np.repeat([each.outside for _, each in chosen], counts),
    }
