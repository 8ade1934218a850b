"""A model that every strategy can run on, and decoders that can branch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.ort.session import open_session


@pytest.fixture(scope="module")
def able(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that every strategy can run on."""
    out = tmp_path_factory.mktemp("able") / "model"
    how: dict[str, Any] = {"with_hidden_states": True, "with_attention_bias": True}
    gpt2onnx.export(checkpoint, out, precision="fp32", verify=False, **how)
    return gpt2onnx.load(out, threads=1)


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


def opened(path: Path) -> FusedDecoder:
    folder = open_folder(path)
    return FusedDecoder(open_session(folder.graph, "cpu", threads=1), folder.n_positions)
