"""The most probable tokens beside PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

import gpt2onnx
from gpt2onnx import Model, demo
from gpt2onnx.export.exporter import export
from gpt2onnx.runtime.decoding.results import Alternative, Generation
from tests.conftest import torch_model

PROMPT = "def read_lines(path):\n    "


TOP = 8


GREEDY: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_new_tokens": 3},
    {"suppress_tokens": [199, 10], "repetition_penalty": 0.8},
]


DRAWN: list[dict[str, Any]] = [
    {"temperature": 0.7},  # top_k 50
    {"top_k": 3, "repetition_penalty": 1.3},  # leaves fewer than TOP
    {"top_k": 0, "top_p": 0.8, "temperature": 1.3},
    {"top_k": 0, "min_p": 0.1, "typical_p": 0.9},
]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("bundled") / "fp32"
    export(demo.CHECKPOINT, folder, precision="fp32", verify=False)
    return gpt2onnx.load(folder, provider="cpu", threads=1)


@pytest.fixture(scope="module")
def theirs() -> Any:
    return torch_model(demo.CHECKPOINT)


def ask(theirs: Any, ids: list[int], count: int, parameters: dict[str, Any]) -> Any:
    """transformers' logits and scores, `count` steps of each [vocab], after ids."""
    settings = {**parameters, "max_new_tokens": count, "pad_token_id": 0}
    with torch.inference_mode():
        written = theirs.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            generation_config=transformers.GenerationConfig(**settings),
            return_dict_in_generate=True,
            output_logits=True,
            output_scores=True,
        )
    return [row[0] for row in written.logits], [row[0] for row in written.scores]


def check(ours: tuple[Alternative, ...], row: Any) -> None:  # row [vocab]
    """Every alternative has their log-probability, and no token left out has a larger one."""
    expected = row.float().log_softmax(-1)
    best = expected.topk(min(TOP, int((expected > -np.inf).sum()))).values.numpy()
    np.testing.assert_allclose([each.logprob for each in ours], best, atol=1e-4)
    np.testing.assert_allclose(expected[[each.id for each in ours]].numpy(), best, atol=1e-4)


@pytest.mark.parametrize("parameters", GREEDY)
def test_greedy(bundled: Model, theirs: Any, parameters: dict[str, Any]) -> None:
    given: dict[str, Any] = {"max_new_tokens": 12, "eos_token_id": 0, **parameters}
    written = bundled.generate(PROMPT, top_logprobs=TOP, **given)
    del given["max_new_tokens"]
    logits, scores = ask(theirs, written.prompt_token_ids, len(written.token_ids), given)
    check_all(written, logits, scores)


@pytest.mark.parametrize("parameters", DRAWN)
@pytest.mark.parametrize("lookup", [None, 4])
def test_drawn(bundled: Model, theirs: Any, parameters: dict[str, Any], lookup: int | None) -> None:
    """transformers is asked for each step by itself: it draws other tokens."""
    given: dict[str, Any] = {"do_sample": True, **parameters}
    written = bundled.generate(
        PROMPT,
        max_new_tokens=8,
        seed=3,
        top_logprobs=TOP,
        eos_token_id=(),
        prompt_lookup_num_tokens=lookup,
        **given,
    )
    ids = written.prompt_token_ids + written.token_ids
    ends = range(len(written.prompt_token_ids), len(ids))
    steps = [ask(theirs, ids[:end], 1, given) for end in ends]
    check_all(written, [logits for (logits,), _ in steps], [scores for _, (scores,) in steps])


def check_all(written: Generation, logits: Any, scores: Any) -> None:
    parts = (written.alternatives, written.processed_alternatives, logits, scores)
    for before, after, own, processed in zip(*parts, strict=True):
        check(before, own)
        check(after, processed)
