"""The pieces of a beam search's text beside transformers' streamer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2onnx import Model
from tests.checkpoints import END_OF_TEXT_ID
from tests.runtime.decoding.test_beam_texts import BEAMS


@pytest.mark.parametrize("seed", range(6))
def test_stop_strings_end_what_they_end_in_transformers(
    seed: int, model: Model, reference: Any, checkpoint: Path
) -> None:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, 256, 5)
    likely: Any = model.generate(prompt, num_return_sequences=4, **BEAMS)
    # transformers overlooks a character whose bytes are several tokens.
    letters = [c for each in likely for c in each.text if c.isascii()]
    stops = [str(rng.choice(letters)), letters[0] + letters[1], "longer than it all"]
    call = {**BEAMS, "num_return_sequences": 4, "stop_strings": stops, "length_penalty": 0.0}
    ours: Any = model.generate(prompt, **call)
    with torch.inference_mode():
        theirs = reference.generate(
            torch.from_numpy(prompt)[None],
            attention_mask=torch.ones(1, 5, dtype=torch.long),
            pad_token_id=0,
            tokenizer=tokenizer,
            return_dict_in_generate=True,
            output_scores=True,
            **{**call, "eos_token_id": END_OF_TEXT_ID, "suppress_tokens": [END_OF_TEXT_ID]},
        )
    assert "stop" in {each.finish_reason for each in ours}
    assert [each.score for each in ours] == pytest.approx(
        theirs.sequences_scores.tolist(), rel=1e-4
    )
    for each, tokens in zip(ours, theirs.sequences.tolist(), strict=True):
        assert each.token_ids == tokens[5 : 5 + len(each.token_ids)]
        assert not any(stop in each.text for stop in stops)
