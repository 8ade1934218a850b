"""A constraint is tried in a process that ends where it takes too long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx import GenerationParams
from gpt2onnx.runtime.structured.trial import Trial

# 25 kB that llguidance compiles for many seconds.
PATHOLOGICAL = "(?i)" + "".join(f"[^{letter}]*" for letter in "abcdefghij") * 500


def params(**given: Any) -> GenerationParams:
    return GenerationParams.create({"eos_token_id": [0], **given}, {})


@pytest.fixture
def trial() -> Iterator[Trial]:
    model = gpt2onnx.load("demo", threads=1)
    trial = Trial(model.folder.tokenizer, model.decoder.vocab_size, 0.5)
    yield trial
    trial.close()


@pytest.mark.parametrize(
    "given",
    [
        {"regex": "[a-z]+"},
        {"json_schema": {"type": "object"}, "json_layout": "free"},
        {"grammar": 'start: "é\n"'},
        {"choices": ["a", "b\n"]},
    ],
)
def test_what_is_compiled_in_time(trial: Trial, given: dict[str, Any]) -> None:
    assert trial.holds(params(**given))


def test_what_is_refused_is_refused_in_time(trial: Trial) -> None:
    assert trial.holds(params(regex="("))
    assert trial.holds(params(regex="[a-z]+"))


def test_what_takes_too_long_ends_it(trial: Trial) -> None:
    assert trial.holds(params(regex="[a-z]+"))
    assert not trial.holds(params(regex=PATHOLOGICAL))
    assert not trial.holds(params(regex="[a-z]+"))
