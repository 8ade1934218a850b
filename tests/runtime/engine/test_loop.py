"""The loop on a fake decoder: whatever runs beside a task, it gives what it gives alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.decoder.protocol import Read
from gpt2onnx.runtime.decoding.plain import plain_tasks
from gpt2onnx.runtime.engine.loop import Loop, run
from gpt2onnx.runtime.engine.prompt_turns import next_chunk
from tests.raising import raises
from tests.runtime.engine.mixes import KINDS, MixedDecoder, Request, request, sequences


@cache
def alone(number: int) -> Any:
    """What a request comes to that nobody shares a run with."""
    decoder = MixedDecoder()
    only = request(decoder, number)
    for _ in run(decoder, [only.task]):
        pass
    assert not decoder.rows
    return only.outcome()


numbers = st.integers(0, 20 * len(KINDS))


@given(
    arrivals=st.lists(st.tuples(numbers, st.integers(0, 12)), min_size=1, max_size=12),
    cancelled=st.sets(st.integers(0, 11)),
    frozen=st.sets(st.integers(0, 11)),
    chunks=st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_mixed_tasks_give_what_they_give_alone(
    arrivals: Sequence[tuple[int, int]], cancelled: set[int], frozen: set[int], chunks: int
) -> None:
    """Of any kind, in any order of arrival, whatever is cancelled or frozen beside them."""
    decoder = MixedDecoder()
    loop: Loop[Any] = Loop(decoder, lambda runs: next_chunk(runs, turn))
    asked: dict[int, tuple[int, Request, Any]] = {}
    left = sorted(range(len(arrivals)), key=lambda n: arrivals[n][1])
    away: dict[int, list[Any]] = {}
    turn = 0
    while left or loop.runs or away:
        while left and arrivals[left[0]][1] <= turn:
            place = left.pop(0)
            number = arrivals[place][0]
            wanted = request(decoder, number)
            asked[place] = number, wanted, loop.add(wanted.task)
        for place, (_, wanted, added) in asked.items():
            if place in cancelled and turn == arrivals[place][1] + 3 and added in loop.runs:
                loop.remove(added)
            if place in frozen and turn == arrivals[place][1] + 2 and added in loop.runs:
                loop.pause(added)
                away[place] = [decoder.take_out(row) for row in wanted.task.rows]
            if place in away and turn >= arrivals[place][1] + 5:
                for row in away.pop(place):
                    decoder.put_back(row)
                loop.resume(added)
        loop.turn(most_tokens=4 * chunks)
        turn += 1
    for place, (number, wanted, _) in asked.items():
        if wanted.task.done and place not in cancelled:
            assert wanted.outcome() == alone(number)
        else:
            assert place in cancelled
    assert decoder.rows == decoder.frozen == []


def test_a_short_prompt_waits_for_two_chunks_at_most() -> None:
    decoder = MixedDecoder(n_positions=1024, chunk=128)
    turn = 0
    loop: Loop[Any] = Loop(decoder, lambda runs: next_chunk(runs, turn))
    for n in range(8):
        each = sequences(np.full(1000, n), max_new_tokens=2)
        loop.add(plain_tasks(decoder, each)[0])
    while turn < 3:
        loop.turn(most_tokens=decoder.chunk)
        turn += 1
    decoder.calls.clear()
    short = loop.add(plain_tasks(decoder, sequences(np.arange(10), max_new_tokens=2))[0])
    while not short.takes:
        turn += 1
        loop.turn(most_tokens=decoder.chunk)
    read = [len(ids) for _, ids in decoder.calls if isinstance(ids, list)]
    assert read[-1] == 10
    assert len(read) <= 3
    loop.close()
    assert decoder.rows == []


def test_one_chunk_of_a_prompt_between_two_steps() -> None:
    decoder = MixedDecoder(n_positions=1024, chunk=64)
    loop: Loop[Any] = Loop(decoder)
    loop.add(plain_tasks(decoder, sequences(np.arange(3), max_new_tokens=30))[0])
    loop.turn(most_tokens=decoder.chunk)
    loop.add(plain_tasks(decoder, sequences(np.zeros(640, np.int64), max_new_tokens=1))[0])
    decoder.calls.clear()
    for _ in range(9):
        loop.turn(most_tokens=decoder.chunk)
    assert [name for name, _ in decoder.calls] == ["prefill", "step"] * 9
    loop.close()


def test_a_failing_task_ends_alone() -> None:
    def allowed(index: int, history: Any) -> list[int]:
        return [1] if len(history) < 4 else []

    decoder = MixedDecoder()
    loop: Loop[Any] = Loop(decoder)
    bad = sequences(np.arange(2), max_new_tokens=9, prefix_allowed_tokens_fn=allowed)
    failing = loop.add(plain_tasks(decoder, bad)[0])
    good = request(decoder, 7)
    loop.add(good.task)
    told = []
    while loop.runs:
        told += loop.turn(contain=True)
    (failed,) = [each for each in told if each.error]
    assert failed.run is failing
    assert isinstance(failed.error, ParameterError)
    assert good.outcome() == alone(7)
    assert decoder.rows == []
    loop.add(plain_tasks(decoder, sequences(np.arange(2), prefix_allowed_tokens_fn=allowed))[0])
    with raises(ParameterError, named=("prefix_allowed_tokens_fn",)):
        run_all(loop)
    loop.close()
    assert decoder.rows == []


def run_all(loop: Loop[Any]) -> None:
    while loop.runs:
        loop.turn()


def test_a_prompts_beginning_comes_from_the_prefixes() -> None:
    decoder = MixedDecoder(n_positions=64, chunk=8)
    kept: list[Any] = []

    class Known:
        def restore(self, row: Any, ids: Any, tenant: str | None) -> int:
            row.held.extend(ids[:12].tolist())
            return 12

        def keep(self, row: Any, ids: Any, tenant: str | None) -> None:
            kept.append((list(row.held), ids.tolist(), tenant))

    loop: Loop[Any] = Loop(decoder, prefixes=Known())
    prompt = np.resize(np.arange(9), 25)
    each = sequences(prompt, 2, max_new_tokens=3, do_sample=True, seed=1)
    loop.add(plain_tasks(decoder, each)[0], tenant="a")
    while loop.runs:
        loop.turn(most_tokens=decoder.chunk)
    assert kept == [(prompt.tolist(), prompt.tolist(), "a")]
    assert [ids for name, ids in decoder.calls if name == "prefill"] == [
        prompt[12:19].tolist(),
        prompt[19:].tolist(),
    ]
    plain = MixedDecoder(n_positions=64)
    expected = sequences(prompt, 2, max_new_tokens=3, do_sample=True, seed=1)
    for _ in run(plain, plain_tasks(plain, expected)):
        pass
    assert [s.history.tolist() for s in each] == [s.history.tolist() for s in expected]


def test_reads_name_each_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = MixedDecoder()
    loop: Loop[Any] = Loop(decoder)
    asked: list[int] = []
    read = decoder.read

    def noted(reads: Sequence[Read]) -> Any:
        asked.append(len(reads))
        return read(reads)

    monkeypatch.setattr(decoder, "read", noted)
    for number in range(12):
        loop.add(request(decoder, number).task)
    while loop.runs:
        loop.turn(most_tokens=2 * decoder.chunk)
    assert max(asked) > 4  # steps of several tasks
    assert decoder.rows == []
