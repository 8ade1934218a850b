"""The engine on the bundled model: each request gives what it gives alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx import Engine, Model
from gpt2onnx.errors import (
    EngineClosedError,
    OutOfMemoryError,
    ParameterError,
    PrefixFileError,
    QueueFullError,
    RequestCancelledError,
    RequestExpiredError,
)
from tests.raising import raises

PROMPTS = ["def read(path):\n", "import os\n" * 40, "class A:", "x", "# a list of\n" * 12]
SAMPLED = {"do_sample": True, "top_k": 20, "temperature": 1.1}
KINDS: list[dict[str, Any]] = [
    {},
    {**SAMPLED, "seed": 3, "num_return_sequences": 3},
    {"num_beams": 4, "num_return_sequences": 2},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.6},
    {"prompt_lookup_num_tokens": 4},
    {"guidance_scale": 1.7, "negative_prompt": "import sys"},
    {"regex": r"[a-z]{3,30}!", **SAMPLED, "seed": 9},
    {"repetition_penalty": 1.3, "stop_strings": ["\n\n", "):"]},
    {"draft": "demo-draft", "num_assistant_tokens": 3},
    {"prompt_logprobs": True, "top_logprobs": 2},
]


@pytest.fixture(scope="module")
def model() -> Model:
    return gpt2onnx.load("demo", threads=1)


@pytest.fixture
def engine(model: Model) -> Iterator[Engine]:
    with Engine(model, max_rows=8) as engine:
        yield engine


def requests(count: int) -> list[tuple[str, dict[str, Any]]]:
    """Different prompts, kinds and lengths."""
    return [
        (PROMPTS[n % len(PROMPTS)], {"max_new_tokens": 4 + n % 13, **KINDS[n % len(KINDS)]})
        for n in range(count)
    ]


def test_each_gives_what_it_gives_alone(model: Model, engine: Engine) -> None:
    asked = requests(40)
    alone = [model.generate(prompt, **parameters) for prompt, parameters in asked]
    handles = [engine.submit(prompt, **parameters) for prompt, parameters in asked]
    assert [handle.result(60) for handle in handles] == alone
    stats = engine.stats()
    assert (stats.accepted, stats.finished, stats.rows) == (40, 40, 0)
    assert rows_of(model) == 0


def test_tokens_come_as_a_streams(model: Model, engine: Engine) -> None:
    parameters = {**SAMPLED, "seed": 5, "max_new_tokens": 9, "num_return_sequences": 2}
    assert list(engine.submit("abc", **parameters)) == list(model.stream("abc", **parameters))


def test_many_threads(model: Model, engine: Engine) -> None:
    asked = requests(24)
    alone = [model.generate(prompt, **parameters) for prompt, parameters in asked]
    found: list[Any] = [None] * len(asked)

    def ask(n: int) -> None:
        prompt, parameters = asked[n]
        found[n] = engine.submit(prompt, **parameters).result(60)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == alone


def test_a_list_of_prompts(model: Model, engine: Engine) -> None:
    prompts = PROMPTS * 6  # more than there are rows
    settings = {"max_new_tokens": 5}
    assert engine.submit(prompts, **settings).result(60) == model.generate(prompts, **settings)
    assert engine.submit([], **settings).result(1) == []


def test_scores(model: Model, engine: Engine) -> None:
    long = "import os\n" * 300  # several windows
    writing = engine.submit("abc", max_new_tokens=20)
    one = engine.submit_score([long], top_logprobs=2)
    several = engine.submit_score(PROMPTS[:3], add_bos=False)
    assert one.result(60) == [model.score(long, top_logprobs=2)]
    assert several.result(60) == [model.score(each, add_bos=False) for each in PROMPTS[:3]]
    assert writing.result(60) == model.generate("abc", max_new_tokens=20)
    with pytest.raises(ParameterError):
        next(iter(one))
    assert rows_of(model) == 0


def test_asyncio(model: Model, engine: Engine) -> None:
    async def ask() -> list[Any]:
        handles = [engine.submit(prompt, max_new_tokens=6) for prompt in PROMPTS]
        streamed = [token async for token in handles[0]]
        return [streamed, *[await handle for handle in handles]]

    streamed, *results = asyncio.run(ask())
    assert streamed == list(model.stream(PROMPTS[0], max_new_tokens=6))
    assert results == [model.generate(prompt, max_new_tokens=6) for prompt in PROMPTS]


LONG = {"max_new_tokens": 100, "eos_token_id": []}


def test_cancelling(model: Model, engine: Engine) -> None:
    alone = model.generate("abc", **LONG)
    kept = engine.submit("abc", **LONG)
    running = engine.submit("def", **LONG)
    waiting = [engine.submit("ghi", **LONG) for _ in range(12)]
    next(iter(running))
    for handle in (running, *waiting):
        handle.cancel()
    for handle in (running, *waiting):
        with pytest.raises(RequestCancelledError):
            handle.result(30)
    assert kept.result(30) == alone
    kept.cancel()  # too late
    assert kept.result() == alone
    assert engine.stats().cancelled == 13
    assert rows_of(model) == 0


def test_a_fault_of_one_is_nobody_elses(model: Model, engine: Engine) -> None:
    def failing(index: int, history: Any) -> bool:
        if len(history) > 6:
            raise ZeroDivisionError("in stop_fn")
        return False

    alone = model.generate("abc", **LONG)
    good, bad = engine.submit("abc", **LONG), engine.submit("abc", stop_fn=failing, **LONG)
    with pytest.raises(ZeroDivisionError):
        bad.result(30)
    assert good.result(30) == alone
    assert engine.stats().failed == 1


def test_a_fault_of_one_prompt_ends_its_siblings(model: Model, engine: Engine) -> None:
    """They are one request, and stand in one turn."""

    def failing(index: int, history: Any) -> bool:
        if index == 1 and len(history) > 6:
            raise ZeroDivisionError("in stop_fn")
        return False

    alone = model.generate("abc", **LONG)
    for _ in range(3):
        good = engine.submit("abc", **LONG)
        bad = engine.submit(["a", "b", "c"], stop_fn=failing, **LONG)
        with pytest.raises(ZeroDivisionError):
            bad.result(30)
        assert good.result(30) == alone
    assert rows_of(model) == 0


def test_no_memory_for_rows_is_the_requests_own_error(
    model: Model, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(rows: int, length: int) -> None:
        raise OutOfMemoryError("no memory is left")

    with monkeypatch.context() as patch:
        patch.setattr(model.decoder, "reserve", none_left)
        with pytest.raises(OutOfMemoryError):
            engine.submit("abc").result(30)
    assert engine.submit("abc", **LONG).result(30) == model.generate("abc", **LONG)


def test_closed_by_a_callers_own_function(model: Model) -> None:
    engine = Engine(model)

    def close(index: int, history: Any) -> bool:
        engine.close()
        return False

    with pytest.raises(EngineClosedError):
        engine.submit("abc", stop_fn=close, **LONG).result(30)
    engine.close()


def test_priority_freezes(model: Model) -> None:
    alone = [model.generate(prompt, **LONG) for prompt in ("abc", "def", "ghi", "x")]
    with Engine(model, max_rows=2) as engine:
        low = [engine.submit(prompt, **LONG) for prompt in ("abc", "def")]
        next(iter(low[1]))
        high = engine.submit("ghi", priority=5, **LONG)
        next(iter(high))
        assert engine.stats().frozen == 1
        also = engine.submit("x", priority=-1, **LONG)
        assert [handle.result(60) for handle in (*low, high, also)] == alone
    assert rows_of(model) == 0


def test_a_full_queue_and_a_deadline(model: Model) -> None:
    with Engine(model, max_rows=1, max_waiting=1) as engine:
        assert engine.room == 2  # the row, and a place to wait for it
        running = engine.submit("abc", **LONG)
        next(iter(running))
        late = engine.submit("def", deadline=0.001, **LONG)
        with raises(QueueFullError, expected=1):
            engine.submit("ghi", **LONG)
        with pytest.raises(RequestExpiredError):
            late.result(30)
        assert engine.stats().expired == 1
        running.result(30)


def test_closing(model: Model) -> None:
    engine = Engine(model, max_rows=1)
    handles = [engine.submit("abc", **LONG) for _ in range(3)]
    next(iter(handles[0]))
    engine.close()
    engine.close()
    for handle in handles:
        with pytest.raises(EngineClosedError):
            handle.result(1)
    with pytest.raises(EngineClosedError):
        engine.submit("abc")
    assert rows_of(model) == 0


@pytest.mark.parametrize("size", ["1M", "1G"])
def test_a_prefix_that_was_read_before_changes_no_bit(model: Model, size: str) -> None:
    prompts = ["import os\n" * n + end for n in (30, 43, 60) for end in ("a", "def f():", "")]
    settings = {"max_new_tokens": 5, "top_logprobs": 3}
    alone = [model.generate(prompt, **settings) for prompt in prompts]
    with Engine(model, max_rows=4, prefix_cache=size) as engine:
        for _ in range(2):
            handles = [engine.submit(prompt, **settings) for prompt in prompts]
            assert [handle.result(60) for handle in handles] == alone
        prefixes = engine.stats().prefixes
        assert prefixes
        assert prefixes.hits > len(prompts)
        assert prefixes.bytes <= (1_000_000 if size == "1M" else 10**9)


def test_a_prefix_from_a_file(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "system.prefix"
    prompt = "import os\n" * 60
    saved = model.save_prefix(path, prompt)
    assert saved >= 64
    assert saved % 64 == 0
    alone = model.generate(prompt + "def", max_new_tokens=5, top_logprobs=2)
    with Engine(model, prefix_cache="8M") as engine:
        assert engine.load_prefix(path) == saved
        for _ in range(2):
            written = engine.submit(prompt + "def", max_new_tokens=5, top_logprobs=2, tenant="a")
            assert written.result(30) == alone
        prefixes = engine.stats().prefixes
        assert prefixes
        assert (prefixes.hits, prefixes.misses) == (2, 0)
    with Engine(model) as engine, raises(ParameterError, named=("prefix_cache",)):
        engine.load_prefix(path)
    with raises(ParameterError, named=("prompt",)):
        model.save_prefix(path, "x")
    path.write_bytes(b"other")
    with Engine(model, prefix_cache="8M") as engine, raises(PrefixFileError, path=path):
        engine.load_prefix(path)


@pytest.mark.parametrize(
    "given",
    [
        {"max_rows": 0},
        {"max_rows": True},
        {"max_tokens": 0},
        {"max_waiting": -1},
        {"prefix_cache": "many"},
        {"threads": 1},
    ],
)
def test_bad_settings(model: Model, given: dict[str, Any]) -> None:
    with raises(ParameterError, named=tuple(given)):
        Engine(model, **given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"priority": 11}, ("priority",)),
        ({"deadline": -1}, ("deadline",)),
        ({"num_return_sequences": 10**6, "do_sample": True}, ("max_rows",)),
        ({"top_p": 2}, ("top_p",)),
    ],
)
def test_bad_requests(engine: Engine, given: dict[str, Any], named: tuple[str, ...]) -> None:
    with raises(ParameterError, named=named):
        engine.submit("abc", **given)
    assert engine.stats().accepted == 0


def test_beams_have_no_tokens_before_their_end(engine: Engine) -> None:
    handle = engine.submit("abc", num_beams=2, max_new_tokens=3)
    with raises(ParameterError, named=("num_beams",)):
        next(iter(handle))
    written = handle.result(30)
    assert engine.stats().tokens_written == len(written.token_ids)


def rows_of(model: Any) -> int:
    return len(model.decoder.cache.rows)
