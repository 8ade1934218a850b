"""Rounding on the kernels' graph holds where activations have outliers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import gpt2onnx
from benchmarks.checkpoints import outliers
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from gpt2onnx.runtime.decoder import reads
from tests.export.logits import mean_kl
from tests.export.quantization.test_smoothquant_torch import KL, held_out_ids

Logits = NDArray[np.float32]


def logits(checkpoint: Path, folder: Path, precision: str, graph: str) -> Logits:
    """Of the held-out tokens, [tokens, vocab]."""
    made = gpt2onnx.export(checkpoint, folder, precision=precision, verify=False).folder
    model = gpt2onnx.load(made, provider="cpu", threads=1, startup_cache=False, graph=graph)
    return reads.extend(model.decoder, model.decoder.new_row(), held_out_ids())


def test_int8_holds_with_outliers(tmp_path: Path) -> None:
    """The checkpoint as it is has the same function."""
    outliers.write(open_checkpoint(CHECKPOINT), tmp_path / "outliers")
    expected = logits(CHECKPOINT, tmp_path / "fp32", "fp32", "onnx")
    found = logits(tmp_path / "outliers", tmp_path / "int8", "int8", "kernels")
    assert mean_kl(expected, found) < KL["int8"]
