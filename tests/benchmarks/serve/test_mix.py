"""Answers are compared with what the model gives a request alone, whole or as they begin."""

from __future__ import annotations

import json
from typing import Any

import pytest

import gpt2onnx
from benchmarks.serve.client import Exchange
from benchmarks.serve.mix import KINDS, Wanted, fault, pool

ANSWER = [([5, 6], "ab", [-1.0, -2.0])]
STREAMED = Wanted("stream", "/v1/completions", {"stream": True}, ANSWER)
WHOLE = Wanted("greedy", "/v1/completions", {}, ANSWER)
SCORED = Wanted("score", "/v1/score", {}, [([5, 6], "", [-1.0, -2.0])])


def choice(ids: list[int], text: str, logprobs: list[float]) -> dict[str, Any]:
    return {"index": 0, "token_ids": ids, "text": text, "logprobs": {"token_logprobs": logprobs}}


def whole(content: Any) -> Exchange:
    return Exchange(status=200, pieces=[(0.0, json.dumps(content).encode())])


def stream(*choices: Any, was_left: bool = False) -> Exchange:
    frames = [f"data: {json.dumps({'choices': [each]})}\n\n".encode() for each in choices]
    return Exchange(status=200, pieces=[(0.0, each) for each in frames], was_left=was_left)


FIRST, SECOND = choice([5], "a", [-1.0]), choice([6], "b", [-2.0])


def test_right_answers() -> None:
    assert fault(WHOLE, whole({"choices": [choice([5, 6], "ab", [-1.0, -2.0])]})) is None
    assert fault(STREAMED, stream(FIRST, SECOND)) is None
    assert fault(STREAMED, stream(FIRST, was_left=True)) is None
    tokens = [{"id": 5, "logprob": -1.0}, {"id": 6, "logprob": -2.0}]
    assert fault(SCORED, whole({"tokens": tokens})) is None


@pytest.mark.parametrize(
    ("wanted", "exchange"),
    [
        (WHOLE, whole({"choices": [choice([5, 7], "ab", [-1.0, -2.0])]})),
        (WHOLE, whole({"choices": [choice([5, 6], "ac", [-1.0, -2.0])]})),
        (WHOLE, whole({"choices": [choice([5, 6], "ab", [-1.0, -2.0000001])]})),
        (WHOLE, whole({"choices": []})),
        (WHOLE, whole({"error": {}})),
        (WHOLE, Exchange(status=200, pieces=[(0.0, b"{")])),
        (STREAMED, stream(FIRST)),
        (STREAMED, stream(FIRST, SECOND, SECOND)),
        (STREAMED, stream(SECOND, was_left=True)),
        (STREAMED, Exchange(status=200, pieces=[(0.0, b'data: {"error": {}}\n\n')])),
        (SCORED, whole({"tokens": [{"id": 5, "logprob": -1.0}]})),
    ],
)
def test_wrong_answers(wanted: Wanted, exchange: Exchange) -> None:
    assert fault(wanted, exchange) is not None


def test_a_pool_has_every_kind_and_its_answers() -> None:
    model = gpt2onnx.load("demo", provider="cpu", threads=1)
    found = pool(model, 20)
    assert {each.kind for each in found} == set(KINDS)
    assert all(each.answer and all(ids for ids, _, _ in each.answer) for each in found)
