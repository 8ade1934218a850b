"""Whose prompt is read next."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import given

from gpt2onnx.runtime.engine.prompt_turns import next_chunk

CHUNK = 128


@dataclass
class Prompt:
    tokens_left: int
    number: int


def read(prompts: list[Prompt], turn: int) -> Prompt:
    """One turn: which prompt's chunk was read. What is read to its end goes."""
    chosen = next_chunk(prompts, turn)
    chosen.tokens_left -= CHUNK
    if chosen.tokens_left <= 0:
        prompts.remove(chosen)
    return chosen


def test_a_short_prompt_behind_eight_long_ones_waits_for_one_chunk() -> None:
    for begun in range(12):  # it comes at any time
        prompts = [Prompt(1000, number) for number in range(8)]
        for turn in range(begun):
            read(prompts, turn)
        short = Prompt(10, 8)
        prompts.append(short)
        turns = [read(prompts, begun), read(prompts, begun + 1)]
        assert short in turns


def test_equals_are_read_in_the_order_of_arrival() -> None:
    prompts = [Prompt(2 * CHUNK, number) for number in (2, 0, 1)]
    assert [read(prompts, turn).number for turn in range(6)] == [0, 0, 1, 1, 2, 2]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=12), st.integers(0, 1))
def test_the_oldest_gets_every_second_turn(lengths: list[int], first: int) -> None:
    """Under a stream of short prompts, too, which would be read before it for ever."""
    prompts = [Prompt(length, number) for number, length in enumerate(lengths)]
    oldest, chunks, turn = prompts[0], -(-prompts[0].tokens_left // CHUNK), first
    while oldest in prompts:
        prompts.append(Prompt(1, 100 + turn))
        read(prompts, turn)
        turn += 1
    assert turn - first <= 2 * chunks
