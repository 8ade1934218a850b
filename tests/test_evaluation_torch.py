"""An evaluation beside PyTorch's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.errors import ParameterError
from gpt2onnx.evaluation import evaluate
from gpt2onnx.reference import Reference, open_reference
from gpt2onnx.runtime.engine.score import walk
from tests.checkpoints import make_checkpoint
from tests.test_evaluation import TEXT

N_POSITIONS = 64


@pytest.fixture(scope="module")
def int8(models: Callable[[str], Path]) -> Model:
    return gpt2onnx.load(models("int8"), threads=1)


def torch_logits(model: Any, ids: list[int], stride: int) -> Any:
    """transformers' logits [n, vocab] after each of ids, in windows that move on by `stride`."""
    logits: list[Any] = []
    for start in range(0, len(ids), stride):
        window = torch.tensor([ids[start : start + N_POSITIONS]])
        with torch.inference_mode():
            logits += model(window).logits[0][len(logits) - start :]
    return torch.stack(logits).double()


@pytest.mark.parametrize("stride", [None, 1, 20, 64])
def test_perplexity_is_transformers(model: Model, reference: Any, stride: int | None) -> None:
    ids = model.to_score(TEXT)
    rows = torch_logits(reference, ids[:-1].tolist(), stride or N_POSITIONS // 2)
    loss = float(torch.nn.functional.cross_entropy(rows, torch.tensor(ids[1:])))
    result = evaluate(model, TEXT, stride=stride)
    assert result.tokens == len(ids) - 1 == len(rows)
    assert result.perplexity == pytest.approx(math.exp(loss), rel=1e-5)
    size = len(TEXT.encode())
    assert result.bits_per_byte == pytest.approx(loss / math.log(2) * len(rows) / size, rel=1e-5)
    assert (result.reference, result.agreement) == (None, None)


def test_agreement_with_a_folder(model: Model, int8: Model, reference: Any) -> None:
    """The reference's part is transformers', the candidate's our own logits."""
    ids = int8.to_score(TEXT)[:-1]
    log_p = torch_logits(reference, ids.tolist(), 32).log_softmax(-1)
    mine = [logits for _, logits in walk(int8.decoder, ids)]
    candidate = torch.tensor(np.concatenate(mine)).double()
    kl = torch.nn.functional.kl_div(
        candidate.log_softmax(-1), log_p, log_target=True, reduction="none"
    ).sum(-1)
    result = evaluate(int8, TEXT, reference=model)
    assert result.agreement is not None
    assert result.agreement.kl_mean == pytest.approx(float(kl.mean()), rel=1e-3)
    assert result.agreement.kl_p99 == pytest.approx(float(kl.quantile(0.99)), rel=1e-3)
    agree = (log_p.argmax(-1) == candidate.argmax(-1)).double().mean()
    assert result.agreement.top1_agreement == pytest.approx(float(agree))
    raw = torch_logits(reference, ids.tolist(), 32)
    largest = float((raw - candidate).abs().max())
    assert result.agreement.max_logit_difference == pytest.approx(largest, rel=1e-3)
    assert result.reference_perplexity == pytest.approx(evaluate(model, TEXT).perplexity)


@pytest.mark.parametrize("stride", [None, 7])
def test_a_checkpoint_as_reference(model: Model, checkpoint: Path, stride: int | None) -> None:
    result = evaluate(model, TEXT, reference=checkpoint, stride=stride)
    assert result.reference == str(checkpoint)
    assert result.agreement is not None
    assert result.agreement.tokens == result.tokens
    assert result.agreement.kl_mean < 1e-8
    assert result.agreement.top1_agreement == 1
    assert 0 < result.agreement.max_logit_difference < 1e-4
    assert result.reference_perplexity == pytest.approx(result.perplexity, rel=1e-5)


def test_a_reference_of_other_sizes(model: Model, tmp_path: Path) -> None:
    longer = make_checkpoint(tmp_path / "longer", n_positions=80)
    with pytest.raises(ParameterError, match="the same positions of both, found 64 and 80"):
        evaluate(model, TEXT, reference=longer)
    with pytest.raises(ParameterError, match="the same vocabulary of both, found 257 and 4096"):
        evaluate(model, TEXT, reference="demo")


def test_a_reference_with_another_tokenizer(model: Model, checkpoint: Path) -> None:
    other = open_reference(checkpoint)
    shifted = reference_of(other, lambda text, bos: other.to_score(text + "!", bos))
    with pytest.raises(ParameterError, match="the same tokens of the text from both"):
        evaluate(model, TEXT, reference=shifted)


def reference_of(other: Any, to_score: Any) -> Any:
    return Reference("other", other.vocab_size, other.n_positions, to_score, other.walk)
