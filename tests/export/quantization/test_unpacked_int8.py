"""Weights that are multiplied out when a graph is opened: near the checkpoint's, and once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import gpt2onnx
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.export.quantization.blocks import BLOCK_SIZE
from gpt2onnx.export.quantization.unpacked_int8 import Unpacked
from tests.export.small_graph import run

OPTIONS = {"runtime": "transformers.js", "graph": "portable", "verify": False}


@pytest.mark.parametrize("width", [64, 40])  # the second's last block is mostly empty
def test_weights_are_within_a_step_of_their_block(width: int, tmp_path: Path) -> None:
    weight = np.random.default_rng(width).normal(size=(width, 8)).astype(np.float32)
    eye = np.eye(width, dtype=np.float32)
    (found,) = run(tmp_path, lambda op: [Unpacked().product(op, "w", "x", weight)], x=eye)
    assert found.shape == weight.shape
    for start in range(0, width, BLOCK_SIZE):
        expected, here = (each[start : start + BLOCK_SIZE] for each in (weight, found))
        step = np.abs(expected).max(axis=0) / 128
        # Half of one, but for what is largest of the sign that has no lowest level.
        assert (np.abs(here - expected) <= 1.001 * step).all()
        assert (np.abs(here - expected) <= 0.501 * step).mean() > 0.95


def test_a_table_gives_rows_and_their_products(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(10, 64)).astype(np.float32)
    x = np.eye(64, dtype=np.float32)

    def build(op):
        table = Unpacked().table(op, "wte", weight)
        return [table.gather("ids"), table.project("x")]

    rows, products = run(tmp_path, build, ids=np.array([3, 0, 9]), x=x)
    assert np.abs(rows - weight[[3, 0, 9]]).max() < np.abs(weight).max() / 127
    np.testing.assert_array_equal(products.T[[3, 0, 9]], rows)


def test_onnx_runtime_multiplies_them_out_once(tmp_path: Path) -> None:
    folder = gpt2onnx.export(CHECKPOINT, tmp_path / "m", precision="int8", **OPTIONS).folder
    graph = folder / "onnx" / "model_quantized.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(graph), options, ["CPUExecutionProvider"])
    given = onnx.load(graph, load_external_data=False).graph.initializer
    optimised = onnx.load(tmp_path / "optimised.onnx", load_external_data=False)
    left = optimised.graph.initializer
    int8 = onnx.TensorProto.INT8
    assert sum(each.data_type == int8 for each in given) == 4 * 4 + 1
    assert not any(each.data_type == int8 for each in left)


def test_texts_are_those_of_single_precision(tmp_path: Path) -> None:
    texts = []
    for precision in ("fp32", "int8"):
        out = tmp_path / precision
        folder = gpt2onnx.export(CHECKPOINT, out, precision=precision, **OPTIONS).folder
        model = gpt2onnx.load(folder, startup_cache=False)
        texts.append(model.generate("def read(path):\n    ", max_new_tokens=20).text)
    assert texts[0] == texts[1]
