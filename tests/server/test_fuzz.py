"""Whatever a body holds, the answer is no 5xx, and what refuses it is short."""

from __future__ import annotations

import random
from typing import Any

from gpt2onnx.server.sampling import SERVED
from tests.server.conftest import Running

PATHS = (
    "/v1/completions",
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/score",
    "/tokenize",
    "/v1/beams",
    "/v1/commands",
)
NAMES = [
    *SERVED,
    *("prompt", "n", "stop", "stream", "stream_options", "echo", "logprobs", "max_tokens", "model"),
    *("response_format", "suffix", "priority", "negative_prompt", "text", "tokens", "messages"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3.5, 1e308, -1e308, 10**18, 10**40, "", "x", "\n", "é"),
    *([], [1], ["a"], [[1]], [None], [True], ["x"] * 40, {}, {"a": 1}, {"2": 2}, {"1": 1e308}),
    *({"type": "object"}, {"type": "json_object"}, "[a-z]+", "start: /a/", "\0", "x" * 5000),
]


def test_bodies_of_all_kinds(server: Running) -> None:
    rng = random.Random(1)
    for _ in range(400):
        names = rng.sample(NAMES, rng.randint(1, 3))
        body = {"max_tokens": 2, "prompt": "x", **{each: rng.choice(VALUES) for each in names}}
        status, answer, headers = server.ask(rng.choice(PATHS), body)
        assert status < 500, (body, answer)
        if headers["content-type"] == "application/json" and "error" in answer:
            assert len(str(answer)) < 2000, body
    stats = server.engine.stats()
    assert (stats.rows, stats.failed) == (0, 0)
