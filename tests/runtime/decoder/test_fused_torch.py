"""The fused decoder's logits beside transformers'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.decoder.protocol import Logits
from tests.conftest import torch_model
from tests.runtime.decoder.test_fused import IDS, N_POSITIONS, alone


@pytest.fixture(scope="module")
def torch_logits(wide_checkpoint: Path) -> Logits:
    """transformers' logits [N_POSITIONS, vocab] of IDS."""
    import torch

    with torch.inference_mode():
        logits: Logits = torch_model(wide_checkpoint)(torch.from_numpy(IDS)[None]).logits[0].numpy()
    return logits


def test_every_position_against_transformers(decoder: FusedDecoder, torch_logits: Logits) -> None:
    row = decoder.new_row()
    np.testing.assert_allclose(reads.extend(decoder, row, IDS), torch_logits, atol=1e-4)
    decoder.free(row)
    np.testing.assert_allclose(alone(decoder, IDS, 200), torch_logits[199:], atol=1e-4)
    assert row.length == N_POSITIONS
