"""Decoders of the wide checkpoint's fused graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.ort.session import open_session


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
