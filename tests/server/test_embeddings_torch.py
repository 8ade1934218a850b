"""/v1/embeddings by OpenAI's own client, beside transformers' hidden states."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openai
import pytest
import torch

import gpt2onnx
from gpt2onnx import Engine, Model
from gpt2onnx.errors import ParameterError, PromptError
from tests.checkpoints import make_checkpoint
from tests.raising import raises
from tests.server.conftest import Running, serving
from tests.torch_checkpoints import random_model

SIZES = {"n_positions": 300, "n_embd": 32}
TEXTS = ["x", "import os\n", "é" * 140]  # the last in several chunks


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A model with hidden states, and one without."""
    folder = tmp_path_factory.mktemp("hidden")
    source = make_checkpoint(folder / "checkpoint", **SIZES)
    models = {}
    for name, given in (("hidden", True), ("plain", False)):
        out = folder / name
        gpt2onnx.export(source, out, precision="fp32", with_hidden_states=given, verify=False)
        models[name] = gpt2onnx.load(out, threads=1)
    with serving(models, max_rows=4) as running:
        yield running


@pytest.fixture
def client(hidden: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{hidden.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def states(model: Model, text: str) -> Any:  # [n, n_embd]
    ids = torch.from_numpy(model.token_ids(text))[None]
    with torch.no_grad():
        return random_model(0, **SIZES).transformer(ids).last_hidden_state[0].numpy()


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("encoding", ["float", "base64", None])  # None: the client's own choice
def test_vectors_are_transformers_states(
    hidden: Running, client: openai.OpenAI, pooling: str, encoding: Any
) -> None:
    given = {} if encoding is None else {"encoding_format": encoding}
    answer = client.embeddings.create(
        model="hidden", input=TEXTS, extra_body={"pooling": pooling}, **given
    )
    model = hidden.models[0].model
    assert answer.usage.prompt_tokens == sum(len(model.token_ids(text)) for text in TEXTS)
    assert [each.index for each in answer.data] == [0, 1, 2]
    for each, text in zip(answer.data, TEXTS, strict=True):
        found: Any = each.embedding
        if isinstance(found, str):
            found = np.frombuffer(base64.b64decode(found), "<f4")
        whole = states(model, text)
        expected = whole.mean(axis=0) if pooling == "mean" else whole[-1]
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=2e-6)


def test_ids_and_lengths_as_they_are(hidden: Running) -> None:
    model = hidden.models[0].model
    ids = model.token_ids(TEXTS[1]).tolist()
    body = {"model": "hidden", "input": [ids], "normalize": False}
    _, answer, _ = hidden.ask("/v1/embeddings", body)
    expected = states(model, TEXTS[1]).mean(axis=0)
    np.testing.assert_allclose(answer["data"][0]["embedding"], expected, atol=2e-6)
    assert answer["object"] == "list"


def test_beside_others_to_the_bit(hidden: Running) -> None:
    bodies = [{"model": "hidden", "input": text * n} for n in range(1, 8) for text in ("ab", "é ")]
    alone = [hidden.ask("/v1/embeddings", body)[1]["data"] for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda body: hidden.ask("/v1/embeddings", body), bodies))
    assert [answer["data"] for _, answer, _ in together] == alone
    assert hidden.engine.stats().rows == 0


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"model": "plain"}, "model", "--with-hidden-states"),
        ({"input": []}, "input", "is empty"),
        ({"input": ""}, "input", "empty"),
        ({"input": ["x", ""]}, "input", "empty"),
        ({"input": "x" * 301}, "input", "301 tokens"),
        ({"input": [10**6]}, "input", "vocabulary"),
        ({"input": ["x"] * 129}, "input", "at most 128"),
        ({"dimensions": 8}, "dimensions", "isn't served"),
        ({"encoding_format": "hex"}, "encoding_format", "float or base64"),
        ({"pooling": "cls"}, "pooling", "mean or last"),
        ({"input": None}, "input", "is missing"),
    ],
)
def test_what_is_refused(hidden: Running, fields: dict[str, Any], param: str, message: str) -> None:
    body = {"model": "hidden", "input": "x", **fields}
    status, answer, _ = hidden.ask("/v1/embeddings", body)
    assert (status, answer["error"]["param"]) == (400, param), answer
    assert message in answer["error"]["message"]


def test_the_end_of_what_is_too_long(hidden: Running) -> None:
    body = {"model": "hidden", "input": "a" + "x" * 300, "overflow": "truncate"}
    _, answer, _ = hidden.ask("/v1/embeddings", body)
    _, kept, _ = hidden.ask("/v1/embeddings", {**body, "input": "x" * 300})
    assert answer["data"] == kept["data"]
    assert answer["usage"]["total_tokens"] == 300


def test_an_engines_own(hidden: Running, model: Model) -> None:
    (vector,) = hidden.engine.submit_embedding(["x"], pooling="last").result(60)
    np.testing.assert_allclose(vector, states(hidden.engine.model, "x")[-1], atol=2e-6)
    with raises(ParameterError, parameters={"pooling": "x"}):
        hidden.engine.submit_embedding(["x"], pooling="x")  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="empty"):
        hidden.engine.submit_embedding([""])
    with Engine(model) as engine, pytest.raises(ParameterError, match="hidden states"):
        engine.submit_embedding(["x"])
