"""What a worker asks of an engine. Knows tokens and logits, no engine.

Greedy decoding comes in steps: the logits after all rows' newest tokens, and their argmax, which
every engine pays for alike. An engine that hands out no logits has its own `greedy`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]
OnStep = Callable[[list[int]], object]


class Engine:
    """An open model, for greedy decoding of rows of equal length."""

    # Whether `greedy` heeds `forced`.
    can_be_forced = True

    def prompt(self, ids: Ids, room: int) -> Logits:
        """Begin with prompts [rows, n]: the logits [rows, vocab] after their last tokens.

        What was begun before is forgotten. `room`: the tokens that will follow, at most.
        """
        raise NotImplementedError

    def step(self, ids: Ids) -> Logits:
        """Append a token to each row, ids [rows]: the logits [rows, vocab] after them."""
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        """A text's tokens."""
        raise NotImplementedError

    def decode(self, ids: list[int]) -> str:
        """Tokens' text."""
        raise NotImplementedError

    def settings(self) -> Mapping[str, Any]:
        """What the engine chose by itself and a reader should know."""
        return {}

    def greedy(self, prompts: Ids, count: int, on_step: OnStep, forced: Ids | None = None) -> None:
        """Write `count` tokens a row; `on_step` is told each step's, the engine's own, one a row.

        With `forced` [count, rows] those are what the next step is given.
        """
        newest = self.prompt(prompts, count).argmax(-1)
        on_step(newest.tolist())
        for at in range(count - 1):
            given = newest if forced is None else forced[at]
            newest = self.step(given).argmax(-1)
            on_step(newest.tolist())

    def logits(self, ids: Ids, start: int) -> Logits:
        """Logits [n - start + 1, vocab] after ids[:start], ids[:start + 1], … and all of ids [n].

        The first `start` as a prompt, then the given tokens one by one, as decoding would.
        """
        prompt, forced = ids[:start], ids[start:]
        rows = [self.prompt(prompt[None], len(forced))[0].copy()]
        rows += [self.step(forced[at : at + 1])[0].copy() for at in range(len(forced))]
        return np.stack(rows)


class TokenizersText:
    """encode and decode by the tokenizers library, for engines that leave text to others."""

    def read_tokenizer(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids)
        return text
