"""The rows of the table: each runtime, its environment, and the graphs that it is tried with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.environments import Environment
from benchmarks.variants import GENAI, OPENVINO

NUMPY = "numpy==2.4.6"
ORT_1_20 = Environment("onnxruntime-1.20", ("onnxruntime==1.20.1", NUMPY))
ORT_1_24 = Environment("onnxruntime-1.24", ("onnxruntime==1.24.4", NUMPY))
TRACT = Environment("tract", ("tract==0.23.9", NUMPY))
# What transformers.js 4.3.1 wants of onnxruntime-web is pinned beside it.
NODE = ("onnxruntime-node@1.30.0", "@huggingface/transformers@4.3.1")
WEB = "onnxruntime-web@1.31.0-dev.20260914-8d85527a0"

# Precisions by graph; half precision is what devices want.
GRAPHS: dict[str, tuple[str, ...]] = {
    "fused": ("fp32", "int8", "int8-dynamic", "int4"),
    "masked": ("fp32", "int8", "int8-dynamic", "int4"),
    "portable": ("fp32", "int8"),
}
# What multiplies rounded weights in single precision, as the graph says it.
EXACT = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}


@dataclass(frozen=True)
class Row:
    """A runtime as it is shown. Without an environment it is this Python's own, or Node's.

    graphs, precisions: those it is tried with. few: whether it is so slow that few tokens must do.
    """

    title: str
    runtime: str
    environment: Environment | None = None
    graphs: tuple[str, ...] = ("fused", "masked", "portable")
    precisions: tuple[str, ...] = ("fp32", "int8", "int8-dynamic", "int4")
    options: Mapping[str, Any] = field(default_factory=dict)
    few: bool = False

    @property
    def name(self) -> str:
        """Tells it from the others."""
        return f"{self.title} ({self.environment.name})" if self.environment else self.title

    def cells(self) -> Iterator[tuple[str, str]]:
        """Graph and precision of each."""
        for graph in self.graphs:
            for precision in GRAPHS[graph]:
                if precision in self.precisions:
                    yield graph, precision


BOTH = ("masked", "portable")
FLOATS = ("fp32", "int8")
MOST = (*FLOATS, "int8-dynamic")
ROWS = (
    Row("ONNX Runtime", "onnxruntime"),
    Row("ONNX Runtime", "onnxruntime", ORT_1_24),
    Row("ONNX Runtime", "onnxruntime", ORT_1_20),
    Row("onnxruntime-node", "node"),
    Row("onnxruntime-web, WebAssembly", "web", precisions=MOST),
    Row("onnxruntime-web, WebGPU", "web-webgpu", None, ("masked",), FLOATS, few=True),
    Row("transformers.js, Node", "transformers.js", None, BOTH, MOST),
    Row("transformers.js, WebAssembly", "transformers.js-web", None, BOTH, FLOATS),
    Row("transformers.js, WebGPU", "transformers.js-webgpu", None, ("masked",), FLOATS, few=True),
    Row("onnxruntime-genai", "genai", GENAI, BOTH, MOST),
    Row("OpenVINO", "openvino", OPENVINO, ("fused", "masked", "portable"), FLOATS),
    Row("OpenVINO, weights alone rounded", "openvino", OPENVINO, ("portable",), ("int8",), EXACT),
    Row("Optimum", "optimum", None, BOTH, FLOATS),
    Row("ONNX reference evaluator", "reference", None, ("portable",), few=True),
    Row("tract", "tract", TRACT, ("portable", "masked", "fused"), FLOATS),
)
