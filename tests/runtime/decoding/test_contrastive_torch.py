"""Contrastive search and its hidden states beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2onnx import Model
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.protocol import Read
from tests.runtime.decoding.test_contrastive import IDS, hidden_states


def theirs(
    reference: Any, prompt: list[int], penalty_alpha: float, top_k: int, max_new_tokens: int
) -> list[int]:
    """The paper's formula on torch, each candidate read from the beginning."""
    import torch

    tokens = list(prompt)
    with torch.inference_mode():
        while len(tokens) < len(prompt) + max_new_tokens and tokens[len(prompt) :][-1:] != [256]:
            read = reference(torch.tensor([tokens]), output_hidden_states=True)
            context = read.hidden_states[-1][0]
            best = read.logits[0, -1].softmax(-1).topk(top_k)
            candidates = torch.tensor([[*tokens, token] for token in best.indices.tolist()])
            after = reference(candidates, output_hidden_states=True).hidden_states[-1][:, -1]
            cosine = torch.nn.functional.cosine_similarity(after[:, None], context[None], dim=-1)
            scores = (1 - penalty_alpha) * best.values - penalty_alpha * cosine.max(1).values
            tokens.append(int(best.indices[scores.argmax()]))
    return tokens[len(prompt) :]


@pytest.mark.parametrize(("penalty_alpha", "top_k"), [(0.6, 4), (0.3, 8), (0.9, 2)])
def test_the_tokens_are_those_of_the_formula(
    hiding: Model, reference: Any, penalty_alpha: float, top_k: int
) -> None:
    parameters: dict[str, Any] = {"penalty_alpha": penalty_alpha, "top_k": top_k}
    parameters["max_new_tokens"] = 16
    together = hiding.generate(IDS, **parameters)
    assert hiding.generate(IDS, **parameters) == together
    for ids, generation in zip(IDS, together, strict=True):
        wanted = theirs(reference, ids, **parameters)
        assert generation.token_ids == wanted
        assert [token.id for token in hiding.stream(ids, **parameters)] == wanted


def test_hidden_states_are_those_of_transformers(
    hiding: Model, reference: Any, checkpoint: Path, tmp_path: Path
) -> None:
    import torch

    ids = np.array(IDS[-1])
    with torch.inference_mode():
        read = reference(torch.from_numpy(ids)[None], output_hidden_states=True)
    wanted = read.hidden_states[-1][0].numpy()
    decoder: Any = hiding.decoder
    rows = [decoder.new_row() for _ in range(3)]
    reads.prefill(decoder, rows[0], ids[:-1])
    np.testing.assert_allclose(hidden_states(decoder, rows[2], ids), wanted, rtol=1e-3, atol=1e-4)
    decoder.truncate(rows[2], 10)
    lone = [Read(rows[2], ids[10:11]), Read(rows[0], ids[-1:])]  # two runs: rows[1] is left out
    stepped = np.concatenate([result.hidden for result in decoder.read(lone)])
    np.testing.assert_allclose(stepped, wanted[[10, -1]], rtol=1e-3, atol=1e-4)
    for row in rows:
        decoder.free(row)
