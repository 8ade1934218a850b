"""The fused decoder's logits beside transformers'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.decoder.protocol import Logits
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.ort.session import open_session
from tests.conftest import torch_model
from tests.runtime.decoder.test_fused import IDS, N_POSITIONS, alone


@pytest.fixture(scope="module")
def opened(wide_models: Callable[..., Path]) -> Callable[[str], FusedDecoder]:
    decoders: dict[str, FusedDecoder] = {}

    def get(precision: str) -> FusedDecoder:
        if precision not in decoders:
            folder = open_folder(wide_models(*precision.split()))
            # Two threads: products are split between them, which must not change a row.
            decoders[precision] = FusedDecoder(
                open_session(folder.graph, "cpu", threads=2), folder.n_positions
            )
        return decoders[precision]

    return get


@pytest.fixture
def decoder(request: pytest.FixtureRequest, opened: Any) -> Iterator[FusedDecoder]:
    """In the precision (and with the cache) that the test names, fp32 if none."""
    decoder = opened(getattr(request, "param", "fp32"))
    yield decoder
    for row in list(decoder.cache.rows):
        decoder.free(row)


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
