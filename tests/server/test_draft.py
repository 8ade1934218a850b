"""A draft that the server has: the tokens are those of generate with it, and it is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx import Engine, Model
from gpt2onnx.errors import ParameterError
from gpt2onnx.server.served import Served
from tests.checkpoints import make_checkpoint
from tests.raising import raises
from tests.server.conftest import Running, serving

PATH = "/v1/completions"
BODY = {"prompt": "import os\nimport sys\n", "max_tokens": 24}
DRAWN = {"do_sample": True, "top_k": 0}


@pytest.fixture(scope="module")
def draft() -> Model:
    return gpt2onnx.load("demo-draft", threads=1)


@pytest.fixture(scope="module")
def drafted(model: Model, draft: Model) -> Iterator[Running]:
    with serving({"demo": model}, max_rows=8) as running:
        running.models[0].draft = draft
        yield running


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({"temperature": 0}, {}),
        ({"seed": 3}, {**DRAWN, "seed": 3}),
        ({"seed": 3, "n": 2}, {**DRAWN, "seed": 3, "num_return_sequences": 2}),
        ({"temperature": 0, "num_assistant_tokens": 3}, {"num_assistant_tokens": 3}),
    ],
)
def test_tokens_are_those_of_generate_with_it(
    drafted: Running, model: Model, draft: Model, fields: dict[str, Any], parameters: dict[str, Any]
) -> None:
    expected: Any = model.generate(BODY["prompt"], draft=draft, max_new_tokens=24, **parameters)
    expected = expected if isinstance(expected, list) else [expected]
    before = drafted.engine.stats()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: drafted.ask(PATH, {**BODY, **fields}), range(3)))
    for status, answer, _ in answers:
        assert status == 200, answer
        assert [each["text"] for each in answer["choices"]] == [each.text for each in expected]
    written = 3 * 24 * len(expected)
    assert drafted.engine.stats().tokens_written - before.tokens_written == written
    assert drafted.engine.stats().rows == 0


def test_it_guesses_ahead(drafted: Running) -> None:
    before = drafted.engine.stats()
    body = {"prompt": "def __init__(self", "max_tokens": 40, "temperature": 0, "eos_token_id": []}
    assert drafted.ask(PATH, body)[0] == 200
    after = drafted.engine.stats()
    assert after.tokens_written - before.tokens_written == 40
    assert after.turns - before.turns < 40


@pytest.mark.parametrize("fields", [{"num_beams": 3}, {"overflow": "slide", "temperature": 0}])
def test_who_cant_have_it_does_without(
    drafted: Running, model: Model, fields: dict[str, Any]
) -> None:
    parameters = {name: value for name, value in fields.items() if name != "temperature"}
    expected = model.generate(BODY["prompt"], max_new_tokens=24, **parameters)
    status, answer, _ = drafted.ask(PATH, {**BODY, **fields})
    assert status == 200, answer
    assert answer["choices"][0]["text"] == expected.text


def test_without_one_its_fields_are_refused(server: Running) -> None:
    status, answer, _ = server.ask(PATH, {**BODY, "num_assistant_tokens": 3})
    assert (status, answer["error"]["param"]) == (400, "num_assistant_tokens")


def test_one_that_doesnt_fit(model: Model, tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "checkpoint")
    folder = gpt2onnx.export(source, tmp_path / "model", verify=False).folder
    with Engine(model) as engine, raises(ParameterError, named=("draft",)):
        Served("demo", engine, gpt2onnx.load(folder, threads=1))
