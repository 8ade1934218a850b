"""Lookahead decoding on a fake decoder, and with small models against plain decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.errors import CacheFullError, ParameterError
from gpt2onnx.runtime.decoder import kv_cache as cache
from gpt2onnx.runtime.decoder.portable import PortableDecoder
from gpt2onnx.runtime.decoding.lookahead.lookahead import Lookahead, LookaheadSizes, lookahead_of
from gpt2onnx.runtime.decoding.sequence import TokenSequence
from gpt2onnx.runtime.decoding.speculation import SpeculationStats
from gpt2onnx.runtime.engine import loop
from gpt2onnx.samplers import GenerationParams
from tests.fake_decoder import FakeDecoder, by_history, by_last_token
from tests.raising import raises
from tests.runtime.decoding.running import continuations, run_plain, run_strategy

VOCAB = 6
CYCLE = by_last_token(np.roll(np.eye(VOCAB), 1, axis=1).tolist())  # 0, 1 … 5, 0 …
PROMPTS = [[1], [2, 3, 2, 4], [0, 5, 1, 1, 0, 5]]
SIZES = LookaheadSizes(3, 3, 4)
DRAWN = {"do_sample": True, "top_k": 0, "seed": 3, "max_new_tokens": 20}
Written = list[tuple[list[int], str | None]]


def written(sequences: Sequence[TokenSequence], steps: Any) -> Written:
    """Each sequence's new tokens and how it ended, as its steps tell them."""
    tokens: dict[int, list[int]] = {sequence.index: [] for sequence in sequences}
    for step in steps:
        tokens[step.sequence].append(step.token_id)
    for sequence in sequences:
        assert sequence.history[len(sequence.prompt) :].tolist() == tokens[sequence.index]
    return [(tokens[sequence.index], sequence.finish_reason) for sequence in sequences]


def plainly(decoder: FakeDecoder, prompts: Sequence[Sequence[int]], **parameters: Any) -> Written:
    sequences = continuations(prompts, **parameters)
    return written(sequences, run_plain(decoder, sequences))


def ahead(
    decoder: FakeDecoder,
    prompts: Sequence[Sequence[int]],
    sizes: LookaheadSizes = SIZES,
    max_time: float | None = None,
    **parameters: Any,
) -> tuple[Written, dict[int, SpeculationStats]]:
    sequences = continuations(prompts, **parameters)
    strategy = Lookahead(sizes)
    tokens = written(sequences, run_strategy(strategy, decoder, sequences, max_time))
    assert decoder.rows == []
    return tokens, strategy.stats


def runs(decoder: FakeDecoder) -> int:
    return sum(name in ("step", "branch") for name, _ in decoder.calls)


@given(
    sizes=st.builds(LookaheadSizes, st.integers(1, 5), st.integers(2, 5), st.integers(1, 5)),
    prompts=st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12), min_size=1),
    parameters=st.sampled_from([{}, DRAWN]),
    new=st.integers(1, 30),
    n_positions=st.integers(12, 40),
    looks_back=st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_the_tokens_are_those_of_plain_decoding(
    sizes: LookaheadSizes,
    prompts: list[list[int]],
    parameters: dict[str, Any],
    new: int,
    n_positions: int,
    looks_back: int,
) -> None:
    """Whatever the sizes: of a model that few tokens decide, so that n-grams do come again."""
    rule = by_history(VOCAB)
    decoder = FakeDecoder(lambda tokens: rule(tokens[-looks_back:]), n_positions)
    parameters = {**parameters, "max_new_tokens": new}
    expected = plainly(decoder, prompts, **parameters)
    tokens, stats = ahead(decoder, prompts, sizes, **parameters)
    assert tokens == expected
    assert [1 + each.tokens for each in stats.values()] == [len(each) for each, _ in expected]
    assert all(each.accepted <= each.drafted for each in stats.values())


@pytest.mark.parametrize(
    "parameters",
    [
        {"repetition_penalty": 1.5, "no_repeat_ngram_size": 4},
        {"eos_token_id": [3, 4]},
        {"stops": {5}.__contains__},
        {"stop_fn": lambda index, history: len(history) == 9 + index},
        {"return_alternatives": True, "num_return_sequences": 3},
        {"max_length": 20},
        {**DRAWN, "num_return_sequences": 3},
        {**DRAWN, "eos_token_id": 3, "min_new_tokens": 6},
        {**DRAWN, "xtc_probability": 0.5, "temperature": 0.7},
        {**DRAWN, "top_k": None, "mirostat_mode": 2, "mirostat_tau": 2.0},
    ],
)
def test_whatever_the_parameters(parameters: dict[str, Any]) -> None:
    rule = by_history(VOCAB)
    decoder = FakeDecoder(lambda tokens: rule(tokens[-2:]), n_positions=60)
    assert ahead(decoder, PROMPTS, **parameters)[0] == plainly(decoder, PROMPTS, **parameters)


def test_a_text_that_repeats_itself_takes_one_run_for_an_ngram() -> None:
    """Once the pool knows the cycle, a run keeps all of its ngram - 1 guesses and one more."""
    decoder = FakeDecoder(CYCLE)
    tokens, stats = ahead(
        decoder, [list(range(VOCAB)) * 2], LookaheadSizes(2, 4, 1), max_new_tokens=41
    )
    assert tokens == [([n % VOCAB for n in range(41)], "length")]
    assert runs(decoder) == stats[0].rounds == 10
    assert (stats[0].tokens_per_step, stats[0].acceptance_rate) == (4, 1)


def test_the_window_alone_finds_ngrams_that_never_stood_in_the_text() -> None:
    """The text counts on without a repetition; columns of the window counted before it."""
    decoder = FakeDecoder(by_last_token(np.roll(np.eye(40), 1, axis=1).tolist()))
    starts = [39, 36, 31, 26, 21, 16, 11, 6, 0]
    tokens, stats = ahead(decoder, [starts], LookaheadSizes(8, 3, 1), max_new_tokens=39)
    assert tokens == [(list(range(1, 40)), "length")]
    assert stats[0].tokens_per_step > 2


def test_what_a_run_reads() -> None:
    """The newest token, the guesses, and the window behind its first token, which is the newest."""
    decoder = FakeDecoder(CYCLE)
    sequences = continuations([[0, 1, 2, 3, 4, 5]], max_new_tokens=9)
    steps = run_strategy(Lookahead(LookaheadSizes(2, 3, 1)), decoder, sequences)
    next(steps)
    next(steps)
    # The window starts as the prompt's last three tokens, 3 4 and 4 5 its levels.
    assert decoder.calls[1:] == [("branch", [0, 1, 2, 4, 4, 5]), ("keep", [0, 1, 2])]
    next(steps)
    next(steps)
    next(steps)
    # After 0, 1 and 2, the third token; the window's second level is what came after 4 and 5.
    assert decoder.calls[3] == ("branch", [3, 4, 5, 5, 5, 0])
    steps.close()
    assert decoder.rows == []


def test_what_is_never_drafted() -> None:
    """Neither the last token that may come, nor an end token."""
    decoder = FakeDecoder(CYCLE)
    cycle = [list(range(VOCAB))]
    ahead(decoder, cycle, LookaheadSizes(1, 5, 1), max_new_tokens=3)
    assert decoder.calls[1] == ("branch", [0, 1, 3, 4, 5])  # 0, one guess, the window's others
    decoder = FakeDecoder(CYCLE)
    tokens, _ = ahead(decoder, cycle, LookaheadSizes(1, 5, 1), eos_token_id=2)
    assert tokens == [([0, 1, 2], "eos")]
    assert decoder.calls[1] == ("branch", [0, 1, 3, 4, 5])


@pytest.mark.parametrize("n_positions", range(6, 30))
def test_up_to_the_last_position(n_positions: int) -> None:
    """Where the window finds no room, guesses go on without it; then tokens come one by one."""
    plain, decoder = (FakeDecoder(CYCLE, n_positions) for _ in range(2))
    cycle = [list(range(VOCAB))]
    expected = plainly(plain, cycle, max_new_tokens=100)
    assert ahead(decoder, cycle, LookaheadSizes(3, 3, 1), max_new_tokens=100)[0] == expected
    assert expected[0][1] == "context"


def test_sequences_without_a_guess_share_a_step() -> None:
    decoder = FakeDecoder(CYCLE)
    ahead(decoder, [[0], [3], [2]], max_new_tokens=2)
    assert [call for call in decoder.calls if call[0] != "prefill"] == [("step", 3)]


def test_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock goes on by a second each time it is read: for the start, then once a round."""
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=count().__next__))
    sizes = LookaheadSizes(1, 3, 1)
    tokens, _ = ahead(FakeDecoder(CYCLE), [list(range(VOCAB))], sizes, max_time=2.5)
    assert tokens == [([0, 1, 2, 3, 4], "time")]


def test_closing_gives_every_row_back() -> None:
    decoder = FakeDecoder(CYCLE)
    steps = run_strategy(Lookahead(SIZES), decoder, continuations(PROMPTS, max_new_tokens=50))
    for _ in range(7):
        next(steps)
    assert len(decoder.rows) == 3
    steps.close()
    assert decoder.rows == []


def test_an_error_gives_every_row_back() -> None:
    def breaks(tokens: tuple[int, ...]) -> Any:
        if len(tokens) > 9:
            raise CacheFullError("enough")
        return CYCLE(tokens)

    decoder = FakeDecoder(breaks)
    with raises(CacheFullError, parts=("enough",)):
        ahead(decoder, PROMPTS, max_new_tokens=50)
    assert decoder.rows == []


@pytest.fixture(scope="module")
def _told(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    out = tmp_path_factory.mktemp("told") / "model"
    made = gpt2onnx.export(checkpoint, out, precision="fp32", with_attention_bias=True)
    return gpt2onnx.load(made.folder, threads=1)


@pytest.fixture
def told(_told: Model) -> Iterator[Model]:
    """`checkpoint` in fp32 with an attention bias. A test must give back every row."""
    yield _told
    assert _told.decoder.cache.rows == []  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Model:
    out = tmp_path_factory.mktemp("demo") / "model"
    gpt2onnx.export(CHECKPOINT, out, precision="fp32", with_attention_bias=True, verify=False)
    return gpt2onnx.load(out, threads=1)


TEXTS = ["def read_lines(path):\n", "class Stack:\n    def push(self, item):\n", "import os"]


@pytest.mark.parametrize("sizes", [(2, 4, 2), (8, 5, 8), (1, 2, 1)])
@pytest.mark.parametrize("how", [{}, {"do_sample": True, "seed": 5, "temperature": 0.7}])
def test_texts_of_the_bundled_model_are_the_plain_ones(
    demo: Model, sizes: tuple[int, int, int], how: dict[str, Any]
) -> None:
    given = {**how, "max_new_tokens": 50, "eos_token_id": ()}
    names = ("lookahead_window_size", "lookahead_ngram_size", "lookahead_guess_set_size")
    parameters = {**given, **dict(zip(names, sizes, strict=True))}
    plain = demo.generate(TEXTS, **given)
    together = demo.generate(TEXTS, **parameters)
    for text, mine, theirs in zip(TEXTS, together, plain, strict=True):
        assert (mine.token_ids, mine.text) == (theirs.token_ids, theirs.text)
        np.testing.assert_allclose(mine.logprobs, theirs.logprobs, atol=1e-4)
        assert "".join(token.text for token in demo.stream(text, **parameters)) == theirs.text
        assert mine.speculation is not None
        assert mine.speculation.tokens == 49
    if not how:
        alone = demo.generate(TEXTS[1], **parameters)
        assert alone.speculation == together[1].speculation  # a neighbour changes nothing
        assert alone.speculation.tokens_per_step > 1.1


def test_as_far_as_the_positions_reach(told: Model) -> None:
    given: dict[str, Any] = {"max_new_tokens": 100, "eos_token_id": ()}
    plain = told.generate(["hello", "abcabcabcabc"], **given)
    sized = told.generate(["hello", "abcabcabcabc"], lookahead_window_size=5, **given)
    assert [each.token_ids for each in sized] == [each.token_ids for each in plain]
    assert [each.finish_reason for each in sized] == ["context", "context"]


def test_room_is_made_once(told: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Growing later would copy all rows."""
    arenas = []
    decoder: Any = told.decoder
    allocate = decoder.cache._allocate
    monkeypatch.setattr(
        decoder.cache, "_allocate", lambda *size: arenas.append(size) or allocate(*size)
    )
    monkeypatch.setattr(cache, "MIN_CAPACITY", 1)
    given: dict[str, Any] = {"max_new_tokens": 8, "eos_token_id": ()}
    told.generate("abcab", lookahead_window_size=5, lookahead_guess_set_size=5, **given)
    assert len(arenas) == 1


def test_a_folder_without_the_bias_says_what_to_do(model: Model) -> None:
    """Today's graph; the kernels' branches in every folder."""
    model = gpt2onnx.load(model.folder.path, threads=1, graph="onnx")
    said = "which its graph can't be told: export the model again with with_attention_bias=True"
    with pytest.raises(ParameterError, match=said):
        model.stream("hello", lookahead_window_size=2)


def test_a_portable_graph_is_refused() -> None:
    params, decoder = GenerationParams(lookahead_guess_set_size=2), object.__new__(PortableDecoder)
    with pytest.raises(ParameterError, match="which its graph can't be told"):
        lookahead_of(params, decoder)


def test_a_draft_beside_it_is_refused(told: Model) -> None:
    with raises(ParameterError, parameters={"lookahead_ngram_size": 3}):
        told.generate("hello", draft=told, lookahead_ngram_size=3)


def test_a_models_own_default_gives_way_to_a_draft(told: Model) -> None:
    before = told.defaults
    told.defaults = {**before, "lookahead_window_size": 2}
    try:
        sure = {"assistant_confidence_threshold": 0}  # random weights never are
        drafted = told.generate("hello", draft=told, max_new_tokens=5, **sure)
        assert drafted.speculation.acceptance_rate == 1
        assert told.generate("hello", max_new_tokens=5).speculation is not None
        off = told.generate("hello", max_new_tokens=5, lookahead_window_size=None)
    finally:
        told.defaults = before
    assert off.speculation is None
