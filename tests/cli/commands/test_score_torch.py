"""Log-probabilities beside PyTorch's."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from tests.checkpoints import END_OF_TEXT_ID
from tests.cli.conftest import Run


def test_json_is_what_transformers_says(run: Run, reference: Any, folder: str) -> None:
    text = "some text"
    status, out, _ = run("score", text, "--model", folder, "--json")
    scored = json.loads(out)
    ids = [token["id"] for token in scored["tokens"]]
    tokens = torch.tensor([[END_OF_TEXT_ID, *ids]])
    with torch.inference_mode():
        loss = reference(tokens, labels=tokens).loss.item()
    assert status == 0
    assert "".join(token["text"] for token in scored["tokens"]) == text
    assert scored["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    assert scored["bits_per_byte"] == pytest.approx(loss / math.log(2), rel=1e-4)
    assert sum(t["logprob"] for t in scored["tokens"]) == pytest.approx(-loss * len(ids), rel=1e-4)
