"""Beam search beside transformers'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx import Model
from gpt2onnx.samplers import BeamSearch, GenerationParams
from tests.runtime.decoding.running import run_beams
from tests.samplers.searching import scores


def random_call(rng: np.random.Generator) -> dict[str, Any]:
    beams = int(rng.integers(2, 6))
    new = int(rng.integers(1, 16))
    call: dict[str, Any] = {
        "num_beams": beams,
        "num_return_sequences": int(rng.integers(1, beams + 1)),
        "max_new_tokens": new,
        "length_penalty": float(rng.choice([-1, 0, 0.6, 1, 2])),
        "early_stopping": [True, False, "never"][rng.integers(3)],
    }
    penalties = {
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 2,
        "min_new_tokens": min(4, new),
        "suppress_tokens": [163, 249],
        "begin_suppress_tokens": [158],
        "bad_words_ids": [[169], [158, 95]],
    }
    return call | {name: value for name, value in penalties.items() if rng.random() < 0.25}


@pytest.mark.parametrize("seed", range(24))
def test_transformers_finds_the_same(seed: int, model: Model, reference: Any) -> None:
    """Tokens, scores and the way there. No two of these scores are equal."""
    import torch

    rng = np.random.default_rng(seed)
    prompt, call = rng.integers(0, 257, rng.integers(1, 25)), random_call(rng)
    # End tokens that the model likes: the likeliest after the prompt.
    with torch.inference_mode():
        likely = reference(torch.from_numpy(prompt)[None]).logits[0, -1].argsort(descending=True)
    eos = likely[rng.choice(8, rng.integers(1, 4), replace=False)].tolist()
    with torch.inference_mode():
        theirs = reference.generate(
            torch.from_numpy(prompt)[None],
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            eos_token_id=eos,
            pad_token_id=0,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **call,
        )
    params = GenerationParams(eos_token_id=eos, **call)
    found = BeamSearch(params, prompt, 0, model.decoder.n_positions - len(prompt) + 1)
    run_beams(model.decoder, [found])
    assert scores(found) == pytest.approx(theirs.sequences_scores.tolist(), rel=1e-4)
    for ours, tokens, path in zip(found.best(), theirs.sequences, theirs.beam_indices, strict=True):
        length = int((path >= 0).sum())
        assert ours.hypothesis.tokens.tolist() == tokens[: len(prompt) + length].tolist()
        assert ours.hypothesis.beams.tolist() == path[:length].tolist()
