"""Which tokens stay: those that must, those that texts use, and what these are made of.

Knows counts and merges; knows no file and no weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.smaller.trim.merges import Merges


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a byte-level BPE, by id.

    must: ids that stay whatever the texts use: bytes, added tokens, tokens that settings name.
    """

    tokens: Mapping[int, str]
    merges: Merges
    must: Set[int]
    ids: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", {token: index for index, token in self.tokens.items()})

    def used(self, counts: NDArray[np.int64], min_count: int) -> set[int]:
        """The ids of tokens with counts [vocab] of at least `min_count`, closed under merges."""
        return self._closed((*self.must, *np.flatnonzero(counts >= min_count).tolist()))

    def most_used(self, counts: NDArray[np.int64], size: int) -> set[int]:
        """The `size` ids that the texts need most, closed under merges; of equals the lowest.

        A token goes in with what it is made of, where there is room for that.
        Raises ParameterError where `size` is less than must stay, or more than there are.
        """
        kept = self._closed(self.must)
        self._check_size(size, len(kept))
        order = sorted(self.tokens, key=lambda index: (-counts[index], index))
        while len(kept) < size:  # the shortest of the rest needs nothing else: each round adds one
            self._fill(kept, size, order)
        return kept

    def _fill(self, kept: set[int], size: int, order: Iterable[int]) -> None:
        """Put in each that has room with its making, until there is none."""
        for index in order:
            if len(kept) == size:
                return
            if index not in kept:
                new = self.making(index) - kept
                kept |= new if len(kept) + len(new) <= size else set()

    def making(self, index: int) -> set[int]:
        """A token's id and those of the tokens that it is made of; of an id without a token, it."""
        if index not in self.tokens:
            return {index}
        return {self.ids[token] for token in self.merges.makings(self.tokens[index])}

    def _closed(self, ids: Iterable[int]) -> set[int]:
        return set().union(*map(self.making, ids))

    def _check_size(self, size: int, least: int) -> None:
        given, most = Given("size", size), len(self.tokens.keys() | self.must)
        if size < least:
            raise ParameterError(
                given,
                f": expected at least {least}, since so many tokens must stay: bytes, special and "
                "added tokens, and those that the settings name",
            )
        if size > most:
            raise ParameterError(given, f": expected at most {most}, the tokens that there are")
