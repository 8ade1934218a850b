"""How a student is trained: numbers that decide it, checked, and kept beside a run.

Knows numbers; knows no model.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from gpt2onnx.errors import Given, ParameterError

LONG_SHARE = 0.2  # of the steps, at the end, on windows of all positions
WARMUP_SHARE = 1 / 30
LAST_RATE = 0.02  # of the largest learning rate
MEASURES = 20  # in a run


@dataclass(frozen=True)
class Recipe:
    """`tokens` a step, in windows of `window`; the loss is KL to the teacher's logits and, to the
    share `text_share`, the cross-entropy of the text.
    """

    steps: int
    tokens: int
    window: int
    positions: int
    learning_rate: float
    text_share: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("steps", "tokens", "window"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ParameterError(Given(name, value), ": expected an integer of at least 1")
        for name, largest in (("learning_rate", 1.0), ("text_share", 1.0)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= largest:
                raise ParameterError(Given(name, value), f": expected a number from 0 to {largest}")
        if type(self.seed) is not int or self.seed < 0:
            raise ParameterError(Given("seed", self.seed), ": expected an integer from 0")

    def window_at(self, step: int) -> int:
        """Windows are short, which is cheap, until the last fifth of the steps."""
        short = step <= self.steps - round(LONG_SHARE * self.steps)
        return min(self.window, self.positions) if short else self.positions

    def rate_at(self, step: int) -> float:
        """The learning rate of step 1, 2 …: a linear warm-up, then a cosine."""
        warmup = max(1, round(WARMUP_SHARE * self.steps))
        if step <= warmup:
            return self.learning_rate * step / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        return self.learning_rate * (LAST_RATE + (1 - LAST_RATE) * cosine)

    def measures_at(self, step: int) -> bool:
        return step % max(1, self.steps // MEASURES) == 0 or step == self.steps

    def described(self) -> dict[str, Any]:
        return asdict(self)
