"""BeamSearch by its definitions: all sequences where the beam is wide, one step where it is not."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import BeamSearch, GenerationParams, log_softmax
from tests.fake_decoder import by_history
from tests.raising import raises
from tests.samplers.beam.test_forced_words import constraints, met
from tests.samplers.searching import assert_ranked, every_sequence, logits, scores, search, written

EOS = 3
WIDE = {"num_beams": 128, "max_new_tokens": 4, "eos_token_id": EOS}
ends = st.lists(st.integers(0, 11), max_size=3, unique=True)


def started(num_beams: int = 3, **parameters: Any) -> BeamSearch:
    params = GenerationParams(num_beams=num_beams, **parameters)
    return BeamSearch(params, np.array([1, 2]), 0, room=100)


# --- a beam that is wide enough finds the best of all ---------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([-1.0, 0.0, 0.7, 1.0, 2.0]))
def test_a_wide_beam_finds_every_sequence(seed: int, length_penalty: float) -> None:
    rule = by_history(4, seed)
    found = search(rule, [1], length_penalty=length_penalty, num_return_sequences=128, **WIDE)
    expected = {
        tuple(tokens): score / len(tokens) ** length_penalty
        for tokens, score in every_sequence(rule, [1], 4, [EOS])
    }
    assert_ranked(written(found), expected)
    ranked = [expected[tuple(tokens)] for tokens in written(found)]
    assert scores(found) == pytest.approx(ranked, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), constraints)
def test_a_wide_beam_finds_every_sequence_with_the_phrases(
    seed: int, phrases: list[list[tuple[int, ...]]]
) -> None:
    rule = by_history(4, seed)
    expected = {
        tuple(tokens): score / len(tokens)
        for tokens, score in every_sequence(rule, [1], 4, [EOS])
        if met(tokens, phrases)
    }
    parameters = {**WIDE, "force_words_ids": phrases, "num_return_sequences": 128}
    if not expected:
        with raises(ParameterError, named=("force_words_ids", "max_new_tokens")):
            search(rule, [1], **parameters)
        return
    assert_ranked(written(search(rule, [1], **parameters)), expected)


# --- phrases --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(
        st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=2),
        min_size=1,
        max_size=3,
    ),
    st.integers(2, 5),
    st.sampled_from([{}, {"eos_token_id": 11}, {"forced_eos_token_id": 11, "eos_token_id": 11}]),
    st.integers(0, 3),
)
def test_every_hypothesis_of_a_narrow_beam_has_the_phrases(
    seed: int, phrases: list[list[Any]], beams: int, ends: dict[str, int], spare: int
) -> None:
    """Whatever the room; there is always one."""
    room = sum(max(map(len, alternatives)) for alternatives in phrases) + 1 + spare
    found = search(
        by_history(12, seed),
        [1, 2],
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=room,
        force_words_ids=phrases,
        **ends,
    )
    texts = written(found)
    assert texts
    assert all(
        met(text, [[tuple(p) for p in alternatives] for alternatives in phrases]) for text in texts
    )
    if "forced_eos_token_id" in ends:
        assert {text[-1] for text in texts} == {11}


def test_a_phrase_of_the_prompt_does_not_count() -> None:
    found = search(
        by_history(12), [5, 6], num_beams=2, max_new_tokens=6, force_words_ids=[[5, 6], [7]]
    )
    assert met(written(found)[0], [[(5, 6)], [(7,)]])


def test_a_hypothesis_that_something_else_ends_has_the_phrases() -> None:
    found = search(
        by_history(12),
        [1],
        stops=lambda tokens: tokens[-1] % 2 == 0,
        num_beams=3,
        num_return_sequences=3,
        max_new_tokens=12,
        force_words_ids=[[5], [7]],
    )
    assert all(met(text, [[(5,)], [(7,)]]) for text in written(found))


def test_no_end_token_is_looked_at_before_the_phrases_have_come() -> None:
    table = np.log(np.array([[0.05, 0.1, 0.05, 0.8]], np.float32))
    found = started(2, eos_token_id=3, force_words_ids=[[0, 0]], max_new_tokens=9)
    while found.running:
        unmet = [each.progress != ((),) for each in found.running]
        branches = found.advance(np.repeat(table, len(found.running), axis=0))
        assert not [b for b in branches if b.token == 3 and unmet[b.parent]]
    assert met(written(found)[0], [[(0, 0)]])


def test_the_forced_end_token_needs_its_own_place() -> None:
    call = {"num_beams": 2, "force_words_ids": [[5]], "forced_eos_token_id": 11}
    assert written(search(by_history(12), [1], max_new_tokens=2, **call)) == [[5, 11]]
    with pytest.raises(ParameterError, match="force_words_ids takes 1 tokens, and there is room"):
        search(by_history(12), [1], max_new_tokens=1, **call)


def test_phrases_that_other_constraints_forbid() -> None:
    with pytest.raises(ParameterError, match="leave no token to any beam"):
        search(
            by_history(12),
            [1],
            num_beams=2,
            max_new_tokens=3,
            force_words_ids=[[5, 6]],
            bad_words_ids=[[5, 6]],
        )


# --- groups ---------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from([0.3, 1.0, 5.0]))
def test_groups_of_one_beam_by_the_paper(seed: int, penalty: float) -> None:
    """Group g takes argmax log p - penalty * (how many earlier groups took the token)."""
    rule, prompt, steps = by_history(8, seed), (1, 2), 5
    texts, totals = [prompt] * 3, [0.0] * 3
    for _ in range(steps):
        taken: Counter[int] = Counter()
        for group, text in enumerate(texts):
            augmented = log_softmax(rule(text)) - penalty * np.array([taken[t] for t in range(8)])
            token = int(augmented.argmax())
            texts[group] = (*text, token)
            totals[group] += float(augmented[token])
            taken[token] += 1
    order = sorted(range(3), key=lambda group: -totals[group])
    found = search(
        rule,
        prompt,
        num_beams=3,
        num_beam_groups=3,
        diversity_penalty=penalty,
        max_new_tokens=steps,
        num_return_sequences=3,
    )
    assert sorted(written(found)) == sorted(list(text[2:]) for text in texts)
    assert scores(found) == pytest.approx([totals[group] / steps for group in order], abs=1e-4)


# --- beam sampling --------------------------------------------------------------------------------


def test_beam_sampling_draws_its_distribution() -> None:
    """The two beams of one step, by chi-square: drawn one after the other, none twice."""
    probabilities = np.array([0.35, 0.25, 0.2, 0.15, 0.05])
    warped = np.where(probabilities > 0.1, probabilities**2, 0)  # temperature 0.5, then top_k 4
    p = warped / warped.sum()
    rule = lambda tokens: np.log(probabilities).astype(np.float32)  # noqa: E731
    draws, counts = 4000, Counter[tuple[int, ...]]()
    for seed in range(draws):
        found = search(
            rule,
            [0],
            num_beams=2,
            do_sample=True,
            seed=seed,
            temperature=0.5,
            top_k=4,
            max_new_tokens=1,
            num_return_sequences=2,
        )
        counts[tuple(sorted(token for (token,) in written(found)))] += 1
    pairs = list(combinations(range(4), 2))
    assert set(counts) <= set(pairs)
    expected = [draws * p[a] * p[b] * (1 / (1 - p[a]) + 1 / (1 - p[b])) for a, b in pairs]
    chi_square = sum(
        (counts[pair] - mean) ** 2 / mean for pair, mean in zip(pairs, expected, strict=True)
    )
    assert chi_square < 20.515  # the 0.999 quantile of 5 degrees of freedom


@given(st.integers(0, 10**6), st.integers(2, 4), ends)
def test_of_what_was_drawn_the_best_go_on_and_the_first_may_finish(
    seed: int, beams: int, eos: list[int]
) -> None:
    found = started(beams, do_sample=True, seed=seed, eos_token_id=eos, max_new_tokens=9)
    for _ in range(3):
        if not found.running:
            return
        possible = 12 * len(found.running)
        branches = found.advance(logits(by_history(12, seed), found))
        assert len(branches) == min(max(2, 1 + len(eos)) * beams, possible)
        going = [b for b in branches if b.ending is None]
        best = sorted(going, key=lambda b: -b.hypothesis.score)[:beams]
        assert {id(b) for b in going if b.fate == "kept"} == set(map(id, best))
        for place, branch in enumerate(branches):
            assert (branch.fate == "finished") == (branch.ending is not None and place < beams)


def test_a_seed_makes_beam_sampling_repeatable() -> None:
    sampled = [
        written(
            search(by_history(12), [1], num_beams=3, do_sample=True, seed=seed, max_new_tokens=8)
        )
        for seed in (1, 1, 2)
    ]
    assert sampled[0] == sampled[1] != sampled[2]


# --- what a step says, and what ends it -----------------------------------------------------------


def test_a_step_says_what_became_of_each_candidate() -> None:
    table = np.log(np.array([[0.4, 0.3, 0.2, 0.1]], np.float32))
    found = started(2, eos_token_id=1, max_new_tokens=3)
    first = found.advance(table)
    assert [(b.parent, b.token, b.fate) for b in first] == [
        (0, 0, "kept"),
        (0, 1, "finished"),
        (0, 2, "kept"),
        (0, 3, "pruned"),
    ]
    second = found.advance(np.repeat(table, 2, axis=0))
    assert [(b.parent, b.token, b.fate) for b in second] == [
        (0, 0, "kept"),  # 0.16
        (0, 1, "finished"),  # 0.12
        (0, 2, "kept"),  # 0.08, and of equals the first
        (1, 0, "pruned"),
    ]
    assert [each.tokens.tolist() for each in found.running] == [[1, 2, 0, 0], [1, 2, 0, 2]]
    assert [each.beams.tolist() for each in found.running] == [[0, 0], [0, 0]]
    assert found.running[1].logprobs == pytest.approx(np.log([0.4, 0.2]))


def test_an_end_token_beyond_the_beam_is_no_result() -> None:
    found = started(2, eos_token_id=2, max_new_tokens=3)
    branches = found.advance(np.log(np.array([[0.4, 0.3, 0.2, 0.1]], np.float32)))
    assert [(b.token, b.ending, b.fate) for b in branches][2] == (2, "eos", "pruned")
    assert found.best() == []


def test_out_of_time_all_ends() -> None:
    found = started(3)
    found.advance(logits(by_history(12), found), in_time=False)
    assert found.running == []
    assert [each.ending for each in found.best()] == ["time"]


@pytest.mark.parametrize(("room", "length"), [(4, 4), (50, 6)])
def test_no_hypothesis_is_longer_than_the_room(room: int, length: int) -> None:
    found = search(by_history(12), [1], room=room, num_beams=2, max_new_tokens=6)
    assert [(each.ending, each.hypothesis.length) for each in found.best()] == [("limit", length)]


def test_the_caller_may_end_a_hypothesis() -> None:
    told = []

    def stops(tokens: np.ndarray) -> bool:
        told.append(tokens.tolist())
        return len(tokens) == 2 and tokens[1] % 2 == 0

    found = search(
        by_history(12), [1, 2], stops=stops, num_beams=3, num_return_sequences=3, max_new_tokens=4
    )
    assert {len(tokens) for tokens in told} <= {1, 2, 3, 4}
    stopped = [each for each in found.best() if each.ending == "stop"]
    assert stopped
    assert all(each.hypothesis.tokens[-1] % 2 == 0 for each in stopped)


def test_prefix_allowed_tokens_fn_is_told_the_prompt_and_every_beam() -> None:
    told = []

    def allowed(index: int, history: np.ndarray) -> list[int]:
        told.append((index, history.tolist()))
        return [4, 5]

    found = search(
        by_history(12),
        [1, 2],
        index=7,
        num_beams=2,
        num_return_sequences=2,
        max_new_tokens=2,
        prefix_allowed_tokens_fn=allowed,
    )
    assert told == [(7, [1, 2]), *((7, [1, 2, token]) for token in told_second(told))]
    assert all(set(text) <= {4, 5} for text in written(found))


def told_second(told: list[tuple[int, list[int]]]) -> list[int]:
    """Which of the two tokens the better beam has depends on the rule."""
    return [history[2] for _, history in told[1:]]


def test_constraints_that_leave_fewer_sequences_than_were_asked_for() -> None:
    found = search(
        by_history(12),
        [1],
        num_beams=4,
        num_return_sequences=4,
        max_new_tokens=2,
        prefix_allowed_tokens_fn=lambda index, history: [5] if len(history) == 1 else [6, 7],
    )
    assert sorted(written(found)) == [[5, 6], [5, 7]]


def test_constraints_that_leave_nothing() -> None:
    with pytest.raises(ParameterError) as raised:
        search(by_history(4), [1], num_beams=2, max_new_tokens=5, suppress_tokens=[0, 1, 2, 3])
    assert "suppress_tokens" in raised.value.named


def test_a_beam_without_continuation_is_left_and_the_others_go_on() -> None:
    """After token 5 nothing may follow: no pair twice, and 5 only before itself."""
    found = search(
        by_history(6),
        [0],
        num_beams=6,
        num_return_sequences=6,
        max_new_tokens=2,
        bad_words_ids=[[5, token] for token in range(6)],
    )
    assert all(text[0] != 5 for text in written(found))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_logits_that_are_no_numbers(wrong: float) -> None:
    table = np.zeros((1, 6), np.float32)
    table[0, 2] = wrong
    with raises(ParameterError, name="logits"):
        started(2).advance(table)


def test_a_token_that_the_vocabulary_does_not_have() -> None:
    with raises(ParameterError, named=("force_words_ids",)):
        started(2, force_words_ids=[[9]]).advance(np.zeros((1, 6), np.float32))
