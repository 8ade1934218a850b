"""Classifier-free guidance beside transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx import Model

IDS = [np.random.default_rng(n).integers(0, 256, n).tolist() for n in (1, 2, 7, 19, 40)]


NEGATIVES = [None, [5, 6, 7], np.random.default_rng(9).integers(0, 256, 20).tolist()]


def theirs(
    reference: Any, ids: list[int], negative: list[int] | None, **parameters: Any
) -> list[int]:
    import torch

    if negative is not None:
        parameters["negative_prompt_ids"] = torch.tensor([negative])
    prompt = torch.tensor([ids])
    settings = {"do_sample": False, "pad_token_id": 256, "eos_token_id": 256, **parameters}
    out = reference.generate(prompt, attention_mask=torch.ones_like(prompt), **settings)
    return out[0, len(ids) :].tolist()


@pytest.mark.parametrize("negative", NEGATIVES)
@pytest.mark.parametrize(
    "parameters",
    [
        {"guidance_scale": 1.5},
        {"guidance_scale": 3.0, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
        {"guidance_scale": 0.0},
        {"guidance_scale": -0.5, "suppress_tokens": [256]},
    ],
)
def test_the_tokens_are_those_of_transformers(
    model: Model, reference: Any, negative: list[int] | None, parameters: dict[str, Any]
) -> None:
    parameters = {"max_new_tokens": 20, **parameters}
    together = model.generate(IDS, negative_prompt=negative, **parameters)
    for ids, generation in zip(IDS, together, strict=True):
        wanted = theirs(reference, ids, negative, **parameters)
        assert generation.token_ids == wanted
        alone = model.stream(ids, negative_prompt=negative, **parameters)
        assert [token.id for token in alone] == wanted
