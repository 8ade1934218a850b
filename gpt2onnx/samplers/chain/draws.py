"""Draws of several sequences, made together where their chains are alike.

For few candidates a warper costs what calling numpy costs, so rows that share the calls cost little
more than one. Each token is the one that its sequence draws alone. Knows nothing of penalties, or
of what a chain is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from gpt2onnx.samplers.candidates import Candidates, Left
from gpt2onnx.samplers.draw import categorical_place, categorical_places
from gpt2onnx.samplers.rows import MOST, Rows
from gpt2onnx.samplers.warpers import Warper


class Choice(NamedTuple):
    """A token, and how probable it was: to the model, and in the draw."""

    token: int
    logprob: float  # the model's own: before penalties and warpers
    processed_logprob: float  # after them, among what they left
    left: Left  # what penalties and warpers left, of which it was chosen

    @property
    def candidates(self) -> Candidates:
        """What penalties and warpers left."""
        return self.left()


class Draw:
    """A choice of which a row's largest logits are narrowed to a few candidates, and no more yet.

    `rest` narrows those further, `rng` draws, and `chosen` says what comes of a token that was
    drawn, given its log-probability in the draw and what it was drawn from. Draws whose `alike` are
    equal have the same `rest`, which narrows Rows too; None is like no other.
    """

    def __init__(
        self,
        candidates: Candidates,
        rest: Warper,
        alike: Hashable | None,
        rng: np.random.Generator,
        chosen: Callable[[int, float, Left], Choice],
    ) -> None:
        self.candidates, self.rest, self.rng, self.chosen = candidates, rest, rng, chosen
        self.alike = alike if len(candidates.ids) <= MOST else None
        self._choice: Choice | None = None

    @property
    def choice(self) -> Choice:
        """The token that is drawn: alone, where that wasn't done together with others."""
        if self._choice is None:
            left = self.rest(self.candidates)
            place = categorical_place(left, self.rng)
            self._choice = self.chosen(int(left.ids[place]), left.logprob(place), left.itself)
        return self._choice

    @choice.setter
    def choice(self, choice: Choice) -> None:
        self._choice = choice


def draw_alike(draws: Iterable[Draw]) -> None:
    """Make those that are like others."""
    groups: dict[Hashable, list[Draw]] = {}
    for draw in draws:
        if draw.alike is not None:
            groups.setdefault(draw.alike, []).append(draw)
    for group in groups.values():
        if len(group) > 1:
            _draw_each(group)


def _draw_each(draws: Sequence[Draw]) -> None:
    rows = Rows.together([draw.candidates for draw in draws])
    left = draws[0].rest(rows)
    assert isinstance(left, Rows)
    places = categorical_places(left, [draw.rng for draw in draws])
    tokens = left.take(left.ids, places)[:, 0].tolist()
    logprobs = left.logprobs_at(places)[:, 0].tolist()
    for number, draw in enumerate(draws):
        draw.choice = draw.chosen(tokens[number], logprobs[number], partial(left.row, number))
