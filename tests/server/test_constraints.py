"""Constraints that take too long to compile are refused, and nobody else notices."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from gpt2onnx import Model
from gpt2onnx.runtime.structured import trial
from gpt2onnx.server import constraints
from tests.runtime.structured.test_trial import PATHOLOGICAL
from tests.server.conftest import Running, serving

PATH = "/v1/completions"
BODY = {"model": "demo", "prompt": "x", "max_tokens": 4, "seed": 1}


def test_one_that_takes_too_long(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 1.0)
    with serving({"demo": model}) as server:
        found: list[Any] = []
        bad = threading.Thread(
            target=lambda: found.append(server.ask(PATH, {**BODY, "regex": PATHOLOGICAL}))
        )
        bad.start()
        asked = 0
        while bad.is_alive():
            asked += server.ask("/health")[0] == 200
            time.sleep(0.005)
        status, answer, _ = found[0]
        assert (status, answer["error"]["param"]) == (422, "regex"), answer
        assert answer["error"]["code"] == "too_complex"
        assert asked
        status, answer, _ = server.ask(PATH, {**BODY, "regex": "[a-z]{9}"})
        assert status == 200, answer
        assert server.engine.stats().accepted == 1


def test_too_many_that_wait(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**BODY, "regex": "[b-y]{2}"}
    assert server.ask(PATH, known)[0] == 200
    monkeypatch.setattr(constraints, "MOST_WAITING", 0)
    status, answer, headers = server.ask(PATH, {**BODY, "regex": "[c-x]{2}"})
    assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "queue_full", "5")
    assert server.ask(PATH, known)[0] == 200


@pytest.mark.parametrize("given", [{"regex": "("}, {"grammar": "x"}, {"choices": []}])
def test_malformed_ones_are_refused_as_ever(server: Running, given: dict[str, Any]) -> None:
    status, answer, _ = server.ask(PATH, {**BODY, **given})
    assert (status, [answer["error"]["param"]]) == (400, list(given))
