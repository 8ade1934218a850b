from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.export.calibration import text as calibration_text
from gpt2onnx.export.calibration.own_text import write_texts
from gpt2onnx.export.calibration.text import CalibrationText
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gpt2onnx.export.exporter import export
from gpt2onnx.export.graph.fused import Extras
from gpt2onnx.export.plan import Plan
from tests.checkpoints import make_checkpoint
from tests.raising import raises


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """64 positions; a token a byte."""
    return open_checkpoint(make_checkpoint(tmp_path_factory.mktemp("checkpoint")))


def test_without_a_text_tokens_are_random_and_always_the_same(checkpoint: Checkpoint) -> None:
    ids = CalibrationText(checkpoint, None).windows()
    assert ids.shape == (16, 64)
    assert ids.min() == 0
    assert ids.max() == 256
    np.testing.assert_array_equal(ids, CalibrationText(checkpoint, None).windows())


def test_usual_tokens_are_the_models_own(checkpoint: Checkpoint) -> None:
    ids = CalibrationText(checkpoint, None).usual_windows(130)
    assert ids.shape == (3, 64)
    np.testing.assert_array_equal(ids, write_texts(checkpoint, 130))


def test_or_those_of_the_text(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("abc")
    text = CalibrationText(checkpoint, tmp_path / "text")
    np.testing.assert_array_equal(text.usual_windows(130), text.windows(130))


@pytest.mark.parametrize("length", [1, 63, 64, 1000, 1024, 3000])
def test_a_text_fills_every_position(checkpoint: Checkpoint, tmp_path: Path, length: int) -> None:
    text = "".join(chr(97 + n % 26) for n in range(length))
    (tmp_path / "text").write_text(text)
    ids = CalibrationText(checkpoint, tmp_path / "text").windows()
    assert ids.shape == (16, 64)
    assert checkpoint.tokenizer.decode(ids.flatten().tolist()) == (text * 1024)[:1024]


@pytest.mark.parametrize(("n_positions", "texts"), [(1, 1024), (300, 4), (1024, 1), (2048, 1)])
def test_models_of_any_length(tmp_path: Path, n_positions: int, texts: int) -> None:
    checkpoint = open_checkpoint(make_checkpoint(tmp_path, n_positions=n_positions))
    assert CalibrationText(checkpoint, None).windows().shape == (texts, n_positions)


def test_files_that_are_no_texts(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "bytes").write_bytes(b"a\xff")
    (tmp_path / "utf-16").write_text("text", encoding="utf-16")
    for name in ("bytes", "utf-16", "missing"):
        with raises(ParameterError, path=tmp_path / name):
            CalibrationText(checkpoint, tmp_path / name)
    with pytest.raises(ParameterError, match="empty: expected a text, found no token in it"):
        CalibrationText(checkpoint, tmp_path / "empty")


def test_a_byte_order_mark_is_no_part_of_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\ufeffabc", encoding="utf-8")
    ids = CalibrationText(checkpoint, tmp_path / "text").windows()
    assert checkpoint.tokenizer.decode(ids.flatten()[:6].tolist()) == "abcabc"


def test_a_long_text_is_read_as_far_as_it_is_used(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_text, "ENOUGH", 101)  # cuts the last character in two
    (tmp_path / "text").write_bytes("é".encode() * 2000 + b"\xff")
    ids = CalibrationText(checkpoint, tmp_path / "text").windows()
    assert checkpoint.tokenizer.decode(ids.flatten()[:100].tolist()) == "é" * 50


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_without_waiting_for_its_writer(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with raises(ParameterError, path=tmp_path / "pipe"):
        CalibrationText(checkpoint, tmp_path / "pipe")


def test_the_text_decides_the_grid(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    (tmp_path / "text").write_text("abc" * 30)
    graphs = []
    for name, calibration in (("with", tmp_path / "text"), ("without", None)):
        options: dict[str, Any] = {"kv_cache": "int8", "calibration": calibration}
        made = export(folder, tmp_path / name, **options, verify=False)
        manifest = json.loads((made.folder / "manifest.json").read_text())
        assert manifest["calibration"] == (str(calibration) if calibration else None)
        graphs.append((made.folder / "model.onnx").read_bytes())
    assert graphs[0] != graphs[1]


def test_a_text_says_whether_half_precision_holds_the_cache(tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "precision": "fp32",
        "graph": None,
        "runtime": "onnxruntime",
        "device": "cpu",
    }
    plan = partial(Plan.of, **asked, calibration=tmp_path / "text")
    assert plan(extras=Extras(kv_cache="float16")).calibration == tmp_path / "text"
    with raises(ParameterError, named=("calibration", "precision")):
        plan(extras=Extras())


def test_an_export_that_can_not_be_calibrated_leaves_nothing(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    out, missing = tmp_path / "model", tmp_path / "missing"
    with raises(ParameterError, path=missing):
        export(folder, out, kv_cache="int8", calibration=missing, verify=False)
    with pytest.raises(ParameterError, match="has no effect on precision='fp32'"):
        export(folder, out, precision="fp32", calibration=missing, verify=False)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
