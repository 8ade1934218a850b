"""The loop of beam search on a fake decoder: what it finds, asks for and gives back.

And what it finds with a small model in fp32 against transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.decoder.protocol import Logits
from gpt2onnx.runtime.engine import loop
from gpt2onnx.samplers import BeamSearch, Branch, GenerationParams
from tests.fake_decoder import FakeDecoder, by_history
from tests.runtime.decoding.running import run_beams
from tests.samplers.searching import scores, search, written

VOCAB = 12


def started(
    prompts: Sequence[Sequence[int]], room: int = 100, **parameters: Any
) -> list[BeamSearch]:
    params = GenerationParams(**parameters)
    return [BeamSearch(params, np.array(p), index, room) for index, p in enumerate(prompts)]


calls = st.fixed_dictionaries(
    {
        "num_beams": st.sampled_from([2, 4, 6]),
        "max_new_tokens": st.integers(1, 9),
        "eos_token_id": st.lists(st.integers(0, VOCAB - 1), max_size=2),
        "early_stopping": st.sampled_from([True, False, "never"]),
    },
    optional={
        "length_penalty": st.sampled_from([0.0, 2.0]),
        "repetition_penalty": st.just(1.3),
        "force_words_ids": st.just([[3]]),
    },
)
PROMPTS = st.lists(
    st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=5), min_size=1, max_size=3
)


@settings(max_examples=60, deadline=None)
@given(PROMPTS, calls, st.sampled_from(["plain", "groups", "sampling"]), st.integers(0, 99))
def test_every_prompt_finds_what_it_finds_alone(
    prompts: list[list[int]], call: dict[str, Any], kind: str, seed: int
) -> None:
    """Rows that were passed on, copied and forked hold the hypotheses' own tokens."""
    if kind == "groups":
        call |= {"num_beam_groups": 2, "diversity_penalty": 0.5}
    if kind == "sampling":
        call |= {"do_sample": True, "seed": seed}
    if kind != "plain" or 3 in call["eos_token_id"]:
        call.pop("force_words_ids", None)
    call["num_return_sequences"] = call["num_beams"]
    rule = by_history(VOCAB, seed)
    decoder = FakeDecoder(rule)
    searches = started(prompts, **call)
    run_beams(decoder, searches)
    assert decoder.rows == []
    for prompt, found in zip(prompts, searches, strict=True):
        alone = search(rule, prompt, **call)
        assert written(found) == written(alone)
        assert scores(found) == scores(alone)


def test_prompts_are_prefilled_once_and_share_every_step() -> None:
    decoder = FakeDecoder(by_history(VOCAB))
    run_beams(decoder, started([[1], [2, 3, 4]], num_beams=3, max_new_tokens=4))
    names = [name for name, _ in decoder.calls]
    prefilled = [ids for name, ids in decoder.calls if name == "prefill"]
    assert sorted(prefilled, key=str) == [[1], [2, 3, 4]]
    assert [size for name, size in decoder.calls if name == "step"] == [6, 6, 6]
    assert names.count("fork") == 4  # two for each prompt, at the first choice


def test_only_rows_whose_parent_changed_are_copied_and_only_from_where_they_part() -> None:
    decoder = FakeDecoder(by_history(VOCAB, 3))
    wanted: list[int] = []
    found = started([[1, 2]], num_beams=4, max_new_tokens=12)[0]

    def observe(index: int, logits: Logits, branches: Sequence[Branch]) -> None:
        parents = [int(each.beams[-1]) for each in found.running]
        if parents and len(logits) == 4:
            wanted.append(4 - len(set(parents)))

    run_beams(decoder, [found], observe=observe)
    copies = [size for name, size in decoder.calls if name == "copy"]
    assert len(copies) == sum(wanted) > 0
    assert [name for name, _ in decoder.calls].count("fork") == 3
    assert max(copies) < 12  # never the prompt


def test_room_is_made_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, asked = FakeDecoder(by_history(VOCAB), n_positions=9), []
    monkeypatch.setattr(decoder, "reserve", lambda *room: asked.append(room))
    run_beams(decoder, started([[1, 2], [3, 4, 5]], room=7, num_beams=3, max_new_tokens=7))
    assert asked == [(6, 9)]


def test_the_last_position_holds_a_token_and_one_more_is_chosen() -> None:
    decoder = FakeDecoder(by_history(VOCAB), n_positions=6)
    found = started([[1, 2, 3, 4]], room=3, num_beams=2, max_new_tokens=50)
    run_beams(decoder, found)
    assert found[0].best()[0].ending == "limit"
    assert len(written(found[0])[0]) == 3


def test_a_full_prompt_still_chooses_one_token() -> None:
    decoder = FakeDecoder(by_history(VOCAB), n_positions=4)
    found = started([[1, 2, 3, 4]], room=1, num_beams=2, max_new_tokens=50)
    run_beams(decoder, found)
    assert len(written(found[0])[0]) == 1
    assert [name for name, _ in decoder.calls] == ["prefill"]


def test_no_prompts() -> None:
    run_beams(FakeDecoder(by_history(VOCAB)), [])


def test_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(100))
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    found = started([[1], [2]], num_beams=2, max_new_tokens=9)
    run_beams(FakeDecoder(by_history(VOCAB)), found, max_time=2.5)
    assert [each.best()[0].ending for each in found] == ["time", "time"]
    assert [len(written(each)[0]) for each in found] == [3, 3]


def test_rows_are_given_back_when_a_prompt_has_no_hypothesis_left() -> None:
    decoder = FakeDecoder(by_history(VOCAB))
    params = {"num_beams": 2, "max_new_tokens": 5, "bad_words_ids": [[2, n] for n in range(VOCAB)]}
    with pytest.raises(ParameterError, match="any beam"):
        run_beams(decoder, started([[1], [2]], **params))
    assert decoder.rows == []


def test_rows_are_given_back_when_the_observer_raises() -> None:
    decoder = FakeDecoder(by_history(VOCAB))
    seen = []

    def observe(index: int, logits: Logits, branches: Sequence[Branch]) -> None:
        seen.append(index)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_beams(decoder, started([[1], [2]], num_beams=3, max_new_tokens=9), observe=observe)
    assert decoder.rows == []


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_rows_are_given_back_when_a_fork_fails(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = FakeDecoder(by_history(VOCAB))
    fork = decoder.fork

    def failing(row: Any) -> Any:
        if [name for name, _ in decoder.calls].count("fork") == count:
            raise KeyboardInterrupt
        return fork(row)

    monkeypatch.setattr(decoder, "fork", failing)
    with pytest.raises(KeyboardInterrupt):
        run_beams(decoder, started([[1], [2]], num_beams=4, max_new_tokens=9))
    assert decoder.rows == []


def test_the_observer_sees_the_whole_tree() -> None:
    """From parents, tokens and fates alone the running hypotheses can be drawn."""
    steps: list[tuple[int, Logits, list[Branch]]] = []
    found = started([[1, 2]], num_beams=3, max_new_tokens=6, eos_token_id=[4, 5])[0]
    run_beams(FakeDecoder(by_history(VOCAB)), [found], observe=lambda *step: steps.append(step))
    running: list[list[int]] = [[]]
    finished = []
    for index, logits, branches in steps:
        assert index == 0
        assert logits.shape == (len(running), VOCAB)
        texts = [([*running[b.parent], b.token], b.fate) for b in branches]
        finished += [text for text, fate in texts if fate == "finished"]
        running = [text for text, fate in texts if fate == "kept"]
    assert all(text in finished for text in written(found))


# --- against transformers -------------------------------------------------------------------------
