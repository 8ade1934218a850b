"""Byte-pair merges: which tokens a token is made of, on the way to it.

Why a tokenizer of fewer tokens gives the same ids. A word's merges are applied one by one, each
time the one of the lowest rank, the leftmost of equals. None of them crosses the end of a token
that comes out, so within that token they are what its own text alone would get: its making.
Where every token that comes out is kept with its making, each merge of the old way is still there,
and was the lowest of more: it is the lowest now. So the ways are the same, and so is their end.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise


class Merges:
    """The merges of a byte-level BPE, in order."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        # Of a pair that comes twice the library takes the later place.
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}

    def makings(self, token: str) -> set[str]:
        """The tokens that the token's text goes through until it is the token, itself included.

        Where its text comes to something else, no merge makes it, and it stands alone.
        """
        parts, found = list(token), {token}
        while pair := self._first(parts):
            index = self._index(parts, pair)
            parts[index : index + 2] = ["".join(pair)]
            found.update((*pair, parts[index]))
        return found if len(parts) == 1 else {token}

    def _first(self, parts: list[str]) -> tuple[str, str] | None:
        pairs = [pair for pair in pairwise(parts) if pair in self._ranks]
        return min(pairs, key=self._ranks.__getitem__, default=None)

    @staticmethod
    def _index(parts: list[str], pair: tuple[str, str]) -> int:
        return next(index for index, found in enumerate(pairwise(parts)) if found == pair)
