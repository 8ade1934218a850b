"""/v1/beams: the steps of a search are what an observer of the library's is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gpt2onnx import Model
from gpt2onnx.samplers import Branch
from tests.server.conftest import Running
from tests.server.test_leaving import begin

PATH = "/v1/beams"
FOUR = {"num_beams": 4, "max_tokens": 8}


def events(server: Running, body: dict[str, Any]) -> list[Any]:
    """All but [DONE]."""
    *found, last = server.frames(PATH, body)
    assert last == "[DONE]"
    return found


@pytest.mark.parametrize("more", [{}, {"num_beam_groups": 2, "diversity_penalty": 1.0}])
def test_each_step_comes_and_then_the_answer(
    server: Running, model: Model, more: dict[str, Any]
) -> None:
    steps: list[Sequence[Branch]] = []
    model.generate(
        "import os\n",
        num_beams=4,
        max_new_tokens=8,
        observe=lambda index, logits, branches: steps.append(branches),
        **more,
    )
    body = {**FOUR, **more, "prompt": "import os\n", "logprobs": 2, "return_token_ids": True}
    *found, answer = events(server, body)
    assert [each["step"] for each in found] == list(range(1, len(steps) + 1))
    for each, branches in zip(found, steps, strict=True):
        assert sorted(
            (node["token_id"], node["score"], node["logprob"], node["fate"])
            for node in each["branches"]
        ) == sorted(
            (b.token, b.hypothesis.score, float(b.hypothesis.logprobs[-1]), b.fate)
            for b in branches
        )
    _, whole, _ = server.ask("/v1/completions", body)
    assert (answer["choices"], answer["usage"]) == (whole["choices"], whole["usage"])
    assert answer["choices"][0]["token_ids"] in ways(found)


def test_without_a_stream_the_answer_comes_alone(server: Running) -> None:
    body = {**FOUR, "prompt": "import os\n", "logprobs": 2}
    _, answer, _ = server.ask(PATH, {**body, "stream": False})
    _, whole, _ = server.ask("/v1/completions", body)
    assert (answer["choices"], answer["usage"]) == (whole["choices"], whole["usage"])


def ways(found: list[Any]) -> list[list[int]]:
    """The tokens from the prompt to each node where a text ended."""
    ended, above = [], [[]]
    for each in found:
        above = [[*above[node["parent"]], node["token_id"]] for node in each["branches"]]
        ended += [
            way
            for way, node in zip(above, each["branches"], strict=True)
            if node["fate"] == "finished"
        ]
    return ended


def test_of_several_prompts_each_has_its_tree(server: Running) -> None:
    *found, answer = events(server, {**FOUR, "prompt": ["a", "import "], "return_token_ids": True})
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    for choice in answer["choices"]:
        own = [each for each in found if each["index"] == choice["index"]]
        assert choice["token_ids"] in ways(own)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "num_beams"),
        ({"num_beams": 1}, "num_beams"),
        ({**FOUR, "top_k": -1}, "top_k"),
    ],
)
def test_errors_have_their_status(server: Running, body: dict[str, Any], param: str) -> None:
    status, answer, _ = server.ask(PATH, {"prompt": "a", **body})
    assert (status, answer["error"]["param"]) == (400, param)


def test_a_client_that_leaves_ends_the_search(
    server: Running, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    before = server.engine.stats().cancelled
    body = {"prompt": "import os\n", "num_beams": 4, "max_tokens": 900, "eos_token_id": []}
    connection = begin(server, body, path=PATH)
    assert b"beam_step" in connection.recv(65536) + connection.recv(65536)
    connection.close()
    eventually(lambda: server.engine.stats().cancelled == before + 1)
    assert server.engine.stats().rows == 0
