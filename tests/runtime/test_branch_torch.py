"""A branched step's logits beside transformers', with the same masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.decoder.protocol import Ids, Logits, Mask
from tests.conftest import torch_model
from tests.runtime.test_branch import MASKS, PAST, VOCAB, opened


@pytest.fixture(scope="module")
def told(
    wide_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], FusedDecoder]:
    """A decoder of the wide checkpoint that can branch, in a precision."""
    decoders: dict[str, FusedDecoder] = {}
    out = tmp_path_factory.mktemp("told")

    def get(precision: str) -> FusedDecoder:
        if precision not in decoders:
            how: dict[str, Any] = {"with_attention_bias": True, "verify": False}
            how |= dict(zip(("precision", "kv_cache"), precision.split(), strict=False))
            gpt2onnx.export(wide_checkpoint, out / precision, **how)
            decoders[precision] = opened(out / precision)
        return decoders[precision]

    return get


@pytest.fixture
def decoder(request: pytest.FixtureRequest, told: Any) -> Iterator[FusedDecoder]:
    """In the precision that the test names, fp32 if none."""
    decoder = told(getattr(request, "param", "fp32"))
    yield decoder
    for row in list(decoder.cache.rows):
        decoder.free(row)


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
