"""Evaluations against transformers' own logits, window by window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx import Model
from gpt2onnx.errors import ModelFolderError, ParameterError, PromptError
from gpt2onnx.evaluation import evaluate
from gpt2onnx.runtime.decoder.protocol import Result
from tests.raising import raises

TEXT = "Wer reitet so spät durch Nacht und Wind? Es ist der Vater mit seinem Kind. " * 3


def test_perplexity_is_scores(model: Model) -> None:
    for add_bos in (True, False):
        result = evaluate(model, TEXT, add_bos=add_bos)
        score = model.score(TEXT, add_bos=add_bos)
        assert result.perplexity == pytest.approx(score.perplexity)
        assert result.bits_per_byte == pytest.approx(score.bits_per_byte)
        assert result.tokens == len(score.token_ids)


def test_the_model_beside_itself(model: Model) -> None:
    result = evaluate(model, TEXT, reference=model)
    assert result.figures() == {
        "model": str(model.folder.path),
        "precision": "fp32",
        "tokens": result.tokens,
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte,
        "reference": str(model.folder.path),
        "reference_perplexity": result.perplexity,
        "kl_mean": 0,
        "kl_p99": 0,
        "top1_agreement": 1,
        "max_logit_difference": 0,
    }


def test_the_first_tokens_alone(model: Model) -> None:
    ids = model.to_score(TEXT)
    result = evaluate(model, TEXT, max_tokens=100)
    assert result.tokens == 100
    score = model.score(ids[1:101])
    assert result.perplexity == pytest.approx(score.perplexity)
    assert evaluate(model, "abc", max_tokens=100).tokens == 3


def test_progress(model: Model) -> None:
    told: list[tuple[int, int]] = []
    tokens = evaluate(model, TEXT, progress=lambda *n: told.append(n)).tokens
    assert told[-1] == (tokens, tokens)
    assert [total for _, total in told] == [tokens] * len(told)
    assert sorted(told) == told


def test_an_interrupted_evaluation_gives_its_rows_back(model: Model) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, TEXT, reference=model, progress=interrupt)
    assert model.decoder.cache.rows == []


def test_mistakes(model: Model) -> None:
    with pytest.raises(PromptError, match="empty"):
        evaluate(model, "")
    with raises(ParameterError, parameters={"max_tokens": 0}):
        evaluate(model, TEXT, max_tokens=0)
    with pytest.raises(ParameterError, match="stride=65: expected 1 to 64, the model's positions"):
        evaluate(model, TEXT, stride=65)


def test_logits_that_are_no_numbers(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read = type(model.decoder).read

    def broken(self: Any, reads: Any) -> list[Result]:
        return [result._replace(logits=result.logits * np.nan) for result in read(self, reads)]

    monkeypatch.setattr(type(model.decoder), "read", broken)
    with pytest.raises(ModelFolderError, match="its logits hold NaN or infinity"):
        evaluate(model, TEXT)
