"""A branched step's logits beside transformers', with the same masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.decoder.protocol import Ids, Logits, Mask
from tests.conftest import torch_model
from tests.runtime.test_branch import MASKS, PAST, VOCAB


@pytest.fixture(scope="module")
def reference(wide_checkpoint: Path) -> Any:
    return torch_model(wide_checkpoint)


def torch_logits(reference: Any, past: Ids, ids: Ids, attention_mask: Mask) -> Logits:
    """transformers' logits [n, vocab] of ids [n] behind a past, by an explicit mask."""
    import torch

    total = len(past) + len(ids)
    mask = np.tri(total, dtype=np.bool_)
    mask[len(past) :, len(past) :] = attention_mask
    bias = torch.where(torch.from_numpy(mask), 0.0, torch.finfo(torch.float32).min)
    with torch.inference_mode():
        logits = reference(
            torch.from_numpy(np.concatenate([past, ids]))[None],
            attention_mask=bias[None, None],
            position_ids=torch.from_numpy(mask.sum(axis=1) - 1)[None],
        ).logits
    result: Logits = logits[0, len(past) :].numpy()
    return result


@pytest.mark.parametrize("past", [1, 77, 200])
@pytest.mark.parametrize("name", MASKS)
def test_logits_are_those_of_an_explicit_mask(
    decoder: FusedDecoder, reference: Any, name: str, past: int
) -> None:
    attention_mask = MASKS[name]
    ids = np.random.default_rng(past).integers(0, VOCAB, len(attention_mask))
    reads.prefill(
        decoder, decoder.new_row(), PAST[:5]
    )  # a neighbour, so that the row isn't the first
    row = decoder.new_row()
    reads.prefill(decoder, row, PAST[:past])
    wanted = np.random.default_rng(past).permutation(len(ids))[: len(ids) // 2 + 1]
    logits = reads.branch(decoder, row, ids, attention_mask, wanted)
    assert row.length == past + len(ids)
    expected = torch_logits(reference, PAST[:past], ids, attention_mask)
    np.testing.assert_allclose(logits, expected[wanted], atol=1e-4)
