"""Speculation on a fake decoder: the same tokens in fewer runs, and every row given back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import CacheFullError
from gpt2onnx.runtime.decoder.protocol import Ids
from gpt2onnx.runtime.decoding import speculation
from gpt2onnx.runtime.decoding.drafters import DraftModel, PromptLookup
from gpt2onnx.runtime.decoding.sequence import Step, TokenSequence
from gpt2onnx.runtime.decoding.speculation import Drafter, Speculation, SpeculationStats
from gpt2onnx.runtime.engine import loop
from tests.fake_decoder import FakeDecoder, by_history, by_last_token
from tests.raising import raises
from tests.runtime.decoding.running import continuations, run_plain, run_strategy

VOCAB = 12
CYCLE = by_last_token(
    np.roll(np.eye(VOCAB), 1, axis=1).tolist()
)  # after 0 comes 1, after 11 comes 0
PROMPTS = [[1], [2, 3, 2], [0, 5, 7, 7]]
DRAWN = {"do_sample": True, "top_k": 0, "seed": 3, "max_new_tokens": 20}
Written = list[tuple[list[int], str | None]]


class Fixed:
    """A drafter that says what it is told to."""

    def __init__(self, guess: Callable[[list[int], int], Sequence[int]]) -> None:
        self.guess = guess
        self.asked: list[int] = []

    def draft(self, sequence: TokenSequence, count: int) -> Ids:
        self.asked.append(count)
        return np.array(self.guess(sequence.history.tolist(), count), np.int64)[:count]

    def release(self, sequence: TokenSequence) -> None: ...


RIGHT = Fixed(lambda history, n: [(history[-1] + 1 + i) % VOCAB for i in range(n)])
WRONG = Fixed(lambda history, n: [history[-1]] * n)


def collect(sequences: Sequence[TokenSequence], steps: Any) -> Written:
    tokens: list[list[int]] = [[] for _ in sequences]
    reasons: list[str | None] = [None for _ in sequences]
    for step in steps:
        assert reasons[step.sequence] is None
        reasons[step.sequence] = step.finish_reason
        tokens[step.sequence].append(step.token_id)
    assert reasons == [sequence.finish_reason for sequence in sequences]
    return [(t, s.finish_reason) for t, s in zip(tokens, sequences, strict=True)]


def plainly(decoder: FakeDecoder, prompts: Sequence[Sequence[int]], **parameters: Any) -> Written:
    sequences = continuations(prompts, **parameters)
    return collect(sequences, run_plain(decoder, sequences))


def speculate(
    decoder: FakeDecoder,
    drafter: Drafter,
    prompts: Sequence[Sequence[int]],
    *,
    drafted: int = 4,
    max_time: float | None = None,
    **parameters: Any,
) -> tuple[Written, dict[int, SpeculationStats]]:
    sequences = continuations(prompts, **parameters)
    strategy = Speculation(drafter, drafted)
    written = collect(sequences, run_strategy(strategy, decoder, sequences, max_time))
    assert decoder.rows == []
    return written, strategy.stats


def runs(decoder: FakeDecoder) -> int:
    return sum(name in ("step", "extend") for name, _ in decoder.calls)


def drafters() -> dict[str, Drafter]:
    """Draft models that agree now and then, by chance alone, and always; and a lookup."""
    bad, same = by_history(VOCAB, seed=1), by_history(VOCAB, seed=0)

    def half(tokens: tuple[int, ...]) -> Any:
        return (same if sum(tokens) % 2 else bad)(tokens)

    return {
        "half": DraftModel(FakeDecoder(half)),
        "bad": DraftModel(FakeDecoder(bad)),
        "same": DraftModel(FakeDecoder(same)),
        "lookup": PromptLookup(2),
    }


@pytest.mark.parametrize("name", ["half", "bad", "same", "lookup"])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
        {"eos_token_id": [3, 4]},
        {"stops": {5, 6}.__contains__},
        {"stop_fn": lambda index, history: len(history) == 9 + index},
        {"return_alternatives": True, "num_return_sequences": 3},
        {**DRAWN, "return_alternatives": True, "num_return_sequences": 3},
        {"max_new_tokens": 1},
        {"max_new_tokens": 2},
        {"max_length": 20},
        {"max_new_tokens": 1000},
        DRAWN,
        {**DRAWN, "num_return_sequences": 3},
        {**DRAWN, "eos_token_id": 3, "min_new_tokens": 6},
        {**DRAWN, "xtc_probability": 0.5, "temperature": 0.7},
        {**DRAWN, "top_k": None, "mirostat_mode": 2, "mirostat_tau": 2.0},
        {**DRAWN, "dry_multiplier": 0.8, "dry_sequence_breakers": [1]},
    ],
)
def test_the_tokens_are_those_of_plain_decoding(name: str, parameters: dict[str, Any]) -> None:
    decoder = FakeDecoder(by_history(VOCAB), n_positions=40)
    drafter = drafters()[name]
    expected = plainly(decoder, PROMPTS, **parameters)
    written, stats = speculate(decoder, drafter, PROMPTS, **parameters)
    assert written == expected
    assert [1 + each.tokens for each in stats.values()] == [len(t) for t, _ in expected]
    if isinstance(drafter, DraftModel):
        assert drafter._decoder.rows == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("parameters", [{}, {**DRAWN, "max_new_tokens": 40}])
def test_a_draft_of_the_same_model_is_never_refused(parameters: dict[str, Any]) -> None:
    """The drafter draws with the sequence's own numbers; without them it would guess at random."""
    _, stats = speculate(FakeDecoder(by_history(VOCAB)), drafters()["same"], [[1]], **parameters)
    assert stats[0].drafted > 20
    assert stats[0].acceptance_rate == 1


@pytest.mark.parametrize("kind", ["bad model", "one token"])
def test_sampled_tokens_have_the_models_distribution(kind: str) -> None:
    """Pearson's chi-square over the three tokens that come."""
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.25, 0.25, 0.5]])
    q = p[[1, 2, 0]]
    bad: Drafter = DraftModel(FakeDecoder(by_last_token(q.tolist())))
    drafter = bad if kind == "bad model" else Fixed(lambda history, n: [0] * n)
    decoder = FakeDecoder(by_last_token(p.tolist()))
    counts = np.zeros((3, 3, 3))
    n = 3000
    sequences = continuations(
        [[0]], do_sample=True, top_k=0, seed=11, max_new_tokens=3, num_return_sequences=n
    )
    strategy = Speculation(drafter, 2)
    for tokens, _ in collect(sequences, run_strategy(strategy, decoder, sequences)):
        counts[tuple(tokens)] += 1
    expected = n * p[0][:, None, None] * p[:, :, None] * p[None, :, :]
    drafted = sum(each.drafted for each in strategy.stats.values())
    accepted = sum(each.accepted for each in strategy.stats.values())
    assert 0 < accepted < drafted
    assert ((counts - expected) ** 2 / expected).sum() < 54.05  # 26 degrees of freedom, p = 0.001


@pytest.mark.parametrize("k", [1, 3, 20])
def test_a_perfect_draft_of_k_tokens_needs_one_run_in_k_plus_1(
    k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speculation, "MOST_DRAFTED", k)
    decoder = FakeDecoder(CYCLE)
    rounds = 6
    new = 1 + rounds * (k + 1)  # the first token comes of the prompt
    (written, stats) = speculate(decoder, RIGHT, [[0]], drafted=k, max_new_tokens=new)
    assert written == [([(1 + i) % VOCAB for i in range(new)], "length")]
    assert runs(decoder) == stats[0].rounds == rounds
    assert stats[0].tokens_per_step == k + 1
    assert (stats[0].drafted, stats[0].acceptance_rate) == (rounds * k, 1)


def test_a_hopeless_draft_costs_no_run_more_than_none() -> None:
    plain, decoder = FakeDecoder(CYCLE), FakeDecoder(CYCLE)
    expected = plainly(plain, [[0]], max_new_tokens=15)
    written, stats = speculate(decoder, WRONG, [[0]], max_new_tokens=15)
    assert written == expected
    assert runs(decoder) == runs(plain) == stats[0].rounds == 14
    assert (stats[0].accepted, stats[0].tokens_per_step) == (0, 1)


def test_the_draft_grows_by_two_and_shrinks_halfway_to_what_was_kept() -> None:
    right = Fixed(RIGHT.guess)
    speculate(FakeDecoder(CYCLE), right, [[0]], drafted=5, max_new_tokens=200)
    assert right.asked[:10] == [5, 7, 9, 11, 13, 15, 17, 19, 20, 20]
    wrong = Fixed(WRONG.guess)
    speculate(FakeDecoder(CYCLE), wrong, [[0]], drafted=5, max_new_tokens=50)
    assert wrong.asked[:5] == [5, 2, 1, 1, 1]
    last = Fixed(lambda history, n: [*RIGHT.guess(history, n - 1), history[-1]])
    speculate(FakeDecoder(CYCLE), last, [[0]], drafted=30, max_new_tokens=200)
    assert last.asked[:3] == [30, 29, 28]


def test_nothing_drafted_leaves_the_count_alone() -> None:
    silent = Fixed(lambda history, n: [])
    _, stats = speculate(FakeDecoder(CYCLE), silent, [[0]], max_new_tokens=5)
    assert silent.asked == [3, 2, 1]
    assert (stats[0].drafted, stats[0].acceptance_rate) == (0, 0)


def test_sequences_without_a_draft_share_a_step() -> None:
    decoder = FakeDecoder(CYCLE)
    some = Fixed(lambda history, n: [5] if history[-1] == 4 else [])
    speculate(decoder, some, [[0], [7], [2]], max_new_tokens=4)
    assert decoder.calls[3:] == [("step", 3), ("extend", [4, 5]), ("step", 2), ("step", 2)]


def test_what_is_never_drafted() -> None:
    """Neither the last token of max_new_tokens, nor beyond the last position, nor an end token."""
    decoder = FakeDecoder(CYCLE, n_positions=6)
    written, _ = speculate(decoder, RIGHT, [[0]], drafted=9, max_new_tokens=100)
    assert written == [([1, 2, 3, 4, 5, 6], "context")]
    assert decoder.calls == [("prefill", [0]), ("extend", [1, 2, 3, 4, 5])]
    decoder = FakeDecoder(CYCLE)
    assert speculate(decoder, RIGHT, [[0]], drafted=9, eos_token_id=4)[0][0][1] == "eos"
    assert decoder.calls == [("prefill", [0]), ("extend", [1, 2, 3])]
    decoder = FakeDecoder(CYCLE)
    assert speculate(decoder, RIGHT, [[0]], drafted=9, max_new_tokens=4)[0][0][1] == "length"
    assert decoder.calls == [("prefill", [0]), ("extend", [1, 2, 3])]


def test_a_prompt_that_fills_all_positions() -> None:
    decoder = FakeDecoder(CYCLE, n_positions=3)
    assert speculate(decoder, RIGHT, [[4, 5, 6]])[0] == [([7], "context")]
    assert runs(decoder) == 0


def test_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock goes on by a second each time it is read: for the start, then once a round."""
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=count().__next__))
    written, _ = speculate(FakeDecoder(CYCLE), RIGHT, [[0]], drafted=2, max_time=2.5)
    assert written == [([1, 2, 3, 4, 5], "time")]


def test_closing_gives_every_row_back() -> None:
    decoder, small = FakeDecoder(CYCLE), FakeDecoder(CYCLE)
    sequences = continuations([[0], [5]], max_new_tokens=50)
    steps = run_strategy(Speculation(DraftModel(small), 3), decoder, sequences)
    for _ in range(4):
        next(steps)
    assert len(decoder.rows) == len(small.rows) == 2
    steps.close()
    assert decoder.rows == small.rows == []


@pytest.mark.parametrize("which", ["model", "draft"])
def test_an_error_gives_every_row_back(which: str) -> None:
    def breaks(tokens: tuple[int, ...]) -> Any:
        if len(tokens) > 6:
            raise CacheFullError("enough")
        return CYCLE(tokens)

    decoder = FakeDecoder(breaks if which == "model" else CYCLE)
    small = FakeDecoder(breaks if which == "draft" else CYCLE)
    sequences = continuations([[0], [5]], max_new_tokens=50)
    with raises(CacheFullError, parts=("enough",)):
        collect(sequences, run_strategy(Speculation(DraftModel(small), 3), decoder, sequences))
    assert decoder.rows == small.rows == []


def test_tokens_come_before_the_next_round() -> None:
    """A caller that stops at a token has paid for no other round."""
    decoder = FakeDecoder(CYCLE)
    steps = run_strategy(Speculation(RIGHT, 3), decoder, continuations([[0]], max_new_tokens=50))
    got: list[Step] = [next(steps) for _ in range(5)]
    assert [step.token_id for step in got] == [1, 2, 3, 4, 5]
    assert runs(decoder) == 1
    steps.close()
