"""Several threads on one model: each call gets what it gets alone. And Turns by itself."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx import Generation, Model, evaluate
from gpt2onnx.runtime.machine.turns import Turns, in_turn

THREADS = 8
DRAWN: dict[str, Any] = {"do_sample": True, "seed": 3, "max_new_tokens": 9}
SCHEMA = json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}})
TEXT = "def read(file):"

Call = Callable[[Model, Model], Any]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def model(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Model]:
    """A model that every strategy can run on."""
    out = tmp_path_factory.mktemp("every") / "model"
    options: dict[str, Any] = {"with_hidden_states": True, "with_attention_bias": True}
    gpt2onnx.export(checkpoint, out, precision=request.param, verify=False, **options)
    opened = gpt2onnx.load(out, threads=2)
    yield opened
    assert_free(opened)


@pytest.fixture(scope="module")
def other(models: Callable[[str], Path]) -> Model:
    return gpt2onnx.load(models("fp32"), threads=1)


def assert_free(model: Model) -> None:
    decoder: Any = model.decoder
    assert decoder.cache.rows == []
    assert decoder.cache.arena is None


def told(written: Generation) -> Any:
    return written.token_ids, written.logprobs, written.text, written.finish_reason, written.score


def generated(**parameters: Any) -> Call:
    def call(model: Model, other: Model) -> Any:
        given = {"max_new_tokens": 9} | parameters
        found: Any = model.generate(["hello", "a b"], **given)
        return [[told(text) for text in ([g] if isinstance(g, Generation) else g)] for g in found]

    return call


def drafted(model: Model, other: Model) -> Any:
    return told(model.generate("hello", draft=other, **DRAWN))


def drafting_for_the_other(model: Model, other: Model) -> Any:
    return told(other.generate("hello", draft=model, max_new_tokens=9))


def streamed(model: Model, other: Model) -> Any:
    return [(t.sequence, t.id, t.logprob) for t in model.stream(["ab", "c"], **DRAWN)]


def abandoned(model: Model, other: Model) -> Any:
    stream = model.stream("hello", max_new_tokens=20)
    return [next(stream).id for _ in range(3)]


def scored(model: Model, other: Model) -> Any:
    return model.score(TEXT * 9).logprobs


def evaluated(model: Model, other: Model) -> Any:
    return evaluate(model, TEXT * 3, reference=other).figures()


def observed(model: Model, other: Model) -> Any:
    seen: list[float] = []
    model.generate(
        "ab", num_beams=2, max_new_tokens=4, observe=lambda _, logits, b: seen.append(logits[0, 0])
    )
    return seen


def nested(model: Model, other: Model) -> Any:
    """A call inside a stream's loop, and one in a function that a call asks."""

    def ask(sequence: int, history: Any) -> bool:
        return not model.score("ab").logprobs

    stream = model.stream("hello", stop_fn=ask, max_new_tokens=3)
    return [told(model.generate("x", max_new_tokens=2)) for _ in stream]


CALLS: dict[str, Call] = {
    "greedy": generated(),
    "drawn": generated(**DRAWN, num_return_sequences=3, top_logprobs=2),
    "beams": generated(num_beams=3, num_return_sequences=2),
    "guidance": generated(guidance_scale=1.5, negative_prompt="no"),
    "contrastive": generated(penalty_alpha=0.6, top_k=3),
    "lookup": generated(prompt_lookup_num_tokens=4),
    "lookahead": generated(lookahead_window_size=3),
    "best_of": generated(**DRAWN, best_of=3, prompt_logprobs=True),
    "penalties": generated(repetition_penalty=1.3, dry_multiplier=0.8, no_repeat_ngram_size=2),
    "regex": generated(regex="[a-c]{2,6}"),
    "schema": generated(json_schema=SCHEMA),
    "slide": generated(overflow="slide", max_new_tokens=70, eos_token_id=[]),
    "drafted": drafted,
    "drafting_for_the_other": drafting_for_the_other,
    "streamed": streamed,
    "abandoned": abandoned,
    "scored": scored,
    "evaluated": evaluated,
    "observed": observed,
    "nested": nested,
}


def test_each_of_eight_threads_gets_what_it_gets_alone(model: Model, other: Model) -> None:
    alone = {name: call(model, other) for name, call in CALLS.items()}
    begin = threading.Barrier(THREADS)

    def work(thread: int) -> list[tuple[str, Any]]:
        order = np.random.default_rng(thread).permutation(list(CALLS))
        begin.wait(60)
        return [(name, CALLS[name](model, other)) for name in order]

    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(work, range(THREADS)):
            for name, result in found:
                assert result == alone[name], name
    assert_free(model)


def test_streams_of_two_threads_interleave(model: Model) -> None:
    """A stream that its reader pauses keeps nobody waiting; any thread may go on with it."""
    expected = [token.id for token in model.stream("hello", **DRAWN)]
    paused = model.stream("hello", **DRAWN)
    first = next(paused).id
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(lambda: [t.id for t in model.stream("hello", **DRAWN)]).result(60)
        rest = pool.submit(lambda: [t.id for t in paused]).result(60)
    assert [first, *rest] == other == expected


def test_models_open_at_once(models: Callable[[str], Path]) -> None:
    folder = models("int8")

    def work(thread: int) -> str:
        return gpt2onnx.load(folder).generate("hello", max_new_tokens=5).text

    with ThreadPoolExecutor(THREADS) as pool:
        assert len(set(pool.map(work, range(THREADS)))) == 1


def test_a_stream_in_a_cycle_gives_its_rows_back_when_it_is_collected(model: Model) -> None:
    stream = model.stream("hello", max_new_tokens=20)
    next(stream)
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle
    collector = threading.Thread(target=gc.collect)
    collector.start()
    collector.join()
    assert_free(model)


class Counter:
    """What breaks where two are in it at once."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.inside = 0
        self.given_back: list[int] = []

    @in_turn
    def during(self, work: Callable[[], object]) -> int:
        self.inside += 1
        work()
        inside, self.inside = self.inside, 0
        return inside

    def give_back(self, number: int) -> None:
        self.turns.soon(lambda: self.given_back.append(number))


def test_turns_follow_each_other() -> None:
    counter = Counter()
    with ThreadPoolExecutor(THREADS) as pool:
        pause = threading.Event()
        found = pool.map(lambda _: counter.during(lambda: pause.wait(0.001)), range(50))
        assert set(found) == {1}


def test_what_is_asked_for_within_a_turn_follows_it() -> None:
    counter = Counter()
    seen: list[list[int]] = []

    def work() -> None:
        counter.give_back(1)
        seen.append(list(counter.given_back))

    counter.during(work)
    assert (seen, counter.given_back) == ([[]], [1])
    counter.give_back(2)
    assert counter.given_back == [1, 2]


def test_a_turn_that_fails_lets_the_next_one_begin() -> None:
    counter = Counter()

    def fail() -> None:
        counter.give_back(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        counter.during(fail)
    counter.inside = 0
    assert counter.given_back == [1]
    assert counter.during(lambda: None) == 1
