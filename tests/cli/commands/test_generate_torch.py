"""A text's tokens beside those of transformers."""

from __future__ import annotations

from typing import Any

import torch

from tests.cli.commands.test_generate import objects
from tests.cli.conftest import Run


def test_the_tokens_are_those_of_transformers(run: Run, reference: Any, folder: str) -> None:
    status, out, err = run("generate", "hello", "--model", folder, "--json", "--max-new-tokens", 12)
    (written,) = objects(out)
    prompt = torch.tensor([written["prompt_token_ids"]])
    expected = reference.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=0,
    )[0, prompt.shape[1] :]
    assert (status, err) == (0, "")
    assert written["token_ids"] == expected.tolist()
    assert len(written["logprobs"]) == 12
    assert written["finish_reason"] == "length"
    assert written.keys() == {
        *("prompt_token_ids", "text", "token_ids", "logprobs", "finish_reason"),
        "processed_logprobs",
    }
