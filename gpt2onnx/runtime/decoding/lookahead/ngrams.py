"""N-grams that may come again, by their first token.

Knows tokens; knows nothing of where n-grams come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from numpy.lib.stride_tricks import sliding_window_view

from gpt2onnx.runtime.decoder.protocol import Ids


class NgramPool:
    """Of the n-grams that begin with a token, the latest `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._endings: dict[int, dict[tuple[int, ...], None]] = {}  # the latest one last

    def add(self, ngrams: Iterable[Sequence[int]]) -> None:
        for first, *ending in ngrams:
            endings = self._endings.setdefault(first, {})
            endings.pop(key := tuple(ending), None)
            endings[key] = None
            if len(endings) > self._most:
                del endings[next(iter(endings))]

    def add_text(self, text: Ids, size: int) -> None:
        """All n-grams of `size` that stand in a text [n]."""
        if len(text) >= size:
            self.add(sliding_window_view(text, size).tolist())

    def after(self, token: int) -> list[tuple[int, ...]]:
        """What followed a token: the rest of its n-grams, the latest one first."""
        return list(reversed(self._endings.get(token, {})))
