"""Sequences of several prompts draw together, and each writes what it writes alone."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.decoding.plain import plain_tasks
from gpt2onnx.runtime.decoding.sequence import Step
from gpt2onnx.runtime.engine.loop import Loop
from gpt2onnx.samplers.rows import Rows
from tests.fake_decoder import FakeDecoder, by_history
from tests.runtime.decoding.running import continuations, run_plain

VOCAB, TOP = 60, 12
PROMPTS = [[1], [2, 3, 4], [1], [5, 6], [7]]
CHAIN: dict[str, Any] = {"do_sample": True, "temperature": 0.9, "top_k": 6, "max_new_tokens": 7}


def decoder() -> FakeDecoder:
    fake = FakeDecoder(by_history(VOCAB))
    fake.top = TOP
    return fake


def written(prompts: list[list[int]], **parameters: Any) -> list[list[tuple[int, float, float]]]:
    """Of each sequence its tokens with both log-probabilities."""
    sequences = continuations(prompts, **parameters)
    found: list[list[tuple[int, float, float]]] = [[] for _ in sequences]
    for step in run_plain(decoder(), sequences, whole=False):
        found[step.sequence].append((step.token_id, step.logprob, step.processed_logprob))
    return found


@given(
    later=st.sets(st.sampled_from(["top_p", "min_p", "typical_p", "epsilon_cutoff", "tfs_z"])),
    value=st.sampled_from([0.05, 0.5, 0.9]),
    seed=st.integers(0, 99),
    several=st.integers(1, 2),
)
@settings(max_examples=40, deadline=None)
def test_the_same_as_alone(later: set[str], value: float, seed: int, several: int) -> None:
    given = {**CHAIN, **dict.fromkeys(later, value), "seed": seed, "num_return_sequences": several}
    together = written(PROMPTS, **given)
    alone = [found for prompt in PROMPTS for found in written([prompt], **given)]
    assert together == alone


def test_all_of_a_step_share_their_calls(put_together: list[int]) -> None:
    written(PROMPTS, **CHAIN, top_p=0.9, seed=1)
    assert put_together == [5] * 6  # what follows a prompt is drawn alone


def test_one_that_fails_leaves_the_others_their_draws() -> None:
    def allowed(index: int, history: np.ndarray) -> list[int]:
        return list(range(VOCAB)) if index != 1 or len(history) < 5 else []

    parameters = {**CHAIN, "seed": 2, "prefix_allowed_tokens_fn": allowed}
    fake = decoder()
    loop: Loop[Step] = Loop(fake)
    for task in plain_tasks(fake, continuations([[1], [2, 3, 4], [8]], **parameters), whole=False):
        loop.add(task)
    steps: list[Step] = []
    errors: list[Exception] = []
    while loop.runs:
        for told in loop.turn(contain=True):
            steps += told.events
            errors += [told.error] if told.error else []
    assert [type(error) for error in errors] == [ParameterError]
    assert fake.rows == []
    for index, prompt in ((0, [1]), (2, [8])):
        parameters = {**CHAIN, "seed": 2}
        alone = [token for token, *_ in written([prompt], **parameters)[0]]
        assert [step.token_id for step in steps if step.sequence == index] == alone


def test_functions_of_users_are_called_sequence_by_sequence() -> None:
    """Those of one may share what they note with another's."""
    calls: list[tuple[str, int]] = []

    def allowed(index: int, history: np.ndarray) -> list[int]:
        calls.append(("allowed", index))
        return list(range(VOCAB))

    def stopped(index: int, history: np.ndarray) -> bool:
        calls.append(("stop", index))
        return False

    written(PROMPTS[:3], **CHAIN, seed=1, prefix_allowed_tokens_fn=allowed, stop_fn=stopped)
    turn = [(what, index) for index in range(3) for what in ("allowed", "stop")]
    assert calls == 7 * turn


def test_a_draw_that_fails_ends_what_was_drawn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(rows: Any) -> Rows:
        raise MemoryError

    fake = decoder()
    loop: Loop[Step] = Loop(fake)
    for task in plain_tasks(
        fake, continuations(PROMPTS[:3], **CHAIN, top_p=0.9, seed=1), whole=False
    ):
        loop.add(task)
    loop.turn(contain=True)  # the prompts
    monkeypatch.setattr(Rows, "together", no_memory)
    told = loop.turn(contain=True)
    assert [type(each.error) for each in told] == 3 * [MemoryError]
    assert not loop.runs
    assert fake.rows == []
