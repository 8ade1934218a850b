"""What smoothing leaves of the logits, beside transformers'."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.checkpoints import outliers as outlier_checkpoint
from gpt2onnx.demo import CHECKPOINT, HELD_OUT
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from gpt2onnx.export.exporter import export
from gpt2onnx.runtime.decoder import reads
from tests.export.logits import mean_kl, open_exported

# Mean KL from fp32 in nats on 1,024 tokens; plain rounding on the outliers has 3e-2, 2e-1, 1.6e-1.
KL = {"int8": 1e-3, "int8-dynamic": 1.5e-3, "int4": 1.5e-2}


def held_out_ids() -> NDArray[np.int64]:
    library = Path(sysconfig.get_path("stdlib"))
    paths = [library / f"{name}.py" for name in HELD_OUT.read_text().split() if "." not in name]
    text = "".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())
    if not text:
        pytest.skip(f"none of the modules that {HELD_OUT} names is in {library}")
    return np.array(open_checkpoint(CHECKPOINT).tokenizer.encode(text).ids[:1024])


def test_every_precision_holds_with_outliers(tmp_path: Path) -> None:
    ids = held_out_ids()
    outlier_checkpoint.write(open_checkpoint(CHECKPOINT), tmp_path / "outliers")

    def logits(source: Path, precision: str) -> NDArray[np.float32]:
        folder = tmp_path / precision
        decoder = open_exported(export(source, folder, precision=precision, verify=False).folder)
        return reads.extend(decoder, decoder.new_row(), ids)

    expected = logits(CHECKPOINT, "fp32")
    for precision, bar in KL.items():
        assert mean_kl(expected, logits(tmp_path / "outliers", precision)) < bar
