"""Draws one token from the candidates.

The only place where chance comes in, always as an argument. Knows nothing of parameters or of what
narrowed the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2onnx.samplers.candidates import Candidates, FloatArray, IntArray
from gpt2onnx.samplers.rows import Rows
from gpt2onnx.samplers.spread import Spread


def generator(seed: int | None, index: int) -> np.random.Generator:
    """The random generator of the `index`-th sequence that is drawn for a prompt.

    It depends on (seed, index) alone, so a sequence is the same whatever is drawn beside it; with
    seed None it is seeded from the operating system. The bit generator is named, since numpy may
    change its default one.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,))))


def copied(rng: np.random.Generator) -> np.random.Generator:
    """A generator that gives the numbers that `rng` will give. copy.deepcopy is thrice as slow."""
    bits = type(rng.bit_generator)(0)
    bits.state = rng.bit_generator.state
    return np.random.Generator(bits)


def greedy(candidates: Candidates | FloatArray) -> int:  # [n] or [vocab]
    """The token with the largest logit, of candidates or of a row; the lowest id among equals."""
    if isinstance(candidates, Candidates):
        return int(candidates.ids[candidates.logits.argmax()])
    return int(candidates.argmax())


def ranked(candidates: Candidates, rank: int) -> int:  # [n], rank below n
    """The (rank+1)-th most probable token; of equal ones the lower ids come first."""
    return int(candidates.ids[np.argsort(-candidates.logits, kind="stable")[rank]])


def categorical(candidates: Candidates, rng: np.random.Generator) -> int:  # [n]
    """A token with the probability that its logit gives it; as `categorical_place`."""
    return int(candidates.ids[categorical_place(candidates, rng)])


def categorical_place(candidates: Candidates | Spread, rng: np.random.Generator) -> int:  # [n]
    """Where the token stands among the candidates.

    Inverts the cumulative distribution, summed in float64, at one uniform number. Each draw thus
    takes exactly one number from `rng`, and a sequence depends on nothing but its seed.
    """
    number = rng.random()
    if isinstance(candidates, Spread):
        return candidates.reaching(number)
    place: int = candidates.reaching(candidates.weights, number, "right")
    return place


def categorical_places(
    rows: Rows, rngs: Sequence[np.random.Generator]
) -> IntArray:  # [rows, n] -> [rows, 1]
    """The same of each row by a generator of its own."""
    numbers = np.array([[rng.random()] for rng in rngs])
    return rows.reaching(rows.weights, numbers, "right")
