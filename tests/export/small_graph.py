"""Runs what a few calls of a GraphBuilder make, so that one operator can be held against numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from gpt2onnx.export.writing.onnx_builder import GraphBuilder
from gpt2onnx.runtime.ort.packing import packing_settings

DATA = "graph.onnx.data"


def write(folder: Path, build: Callable[[GraphBuilder], Sequence[str]], **feeds: Any) -> Path:
    """The file of a graph with inputs like `feeds`; `build` gives the names of its outputs."""
    with (folder / DATA).open("wb") as data:
        op = GraphBuilder(data, DATA)
        outputs = [onnx.ValueInfoProto(name=name) for name in build(op)]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), None)
        for name, value in feeds.items()
    ]
    path = folder / "graph.onnx"
    onnx.save(op.model(inputs, outputs), path)
    return path


def run(
    folder: Path, build: Callable[[GraphBuilder], Sequence[str]], **feeds: NDArray[Any]
) -> list[NDArray[Any]]:
    """The outputs of `build`'s graph for `feeds`, as ONNX Runtime computes them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for name, value in packing_settings().items():  # products of 8 bits are exact, as the runtime's
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(
        write(folder, build, **feeds), options, ["CPUExecutionProvider"]
    )
    return [np.asarray(output) for output in session.run(None, feeds)]
