"""Writes an ONNX graph one node a call, and its matrices straight to a data file.

Knows ONNX's data structures and the layout of external data; knows nothing of GPT-2. Values are the
names that ONNX itself uses, so an expression reads like the formula it stands for:

    hidden = op.Add(op.Mul(x, scale), bias)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

OPSET = 21
# Both ONNX Runtime 1.31 and onnx 1.17 know IR version 10; onnx writes its newest unless told.
IR_VERSION = 10
MICROSOFT = "com.microsoft"
CONTRIB_OPERATORS = frozenset(
    {
        "FastGelu",
        "GatherBlockQuantized",
        "GroupQueryAttention",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QuickGelu",
    }
)

# Offsets that are a multiple of the page size let ONNX Runtime map a tensor where it lies.
# https://onnx.ai/onnx/repo-docs/ExternalData.html
PAGE = 4096


class GraphBuilder:
    """Collects the nodes and initializers of one graph; `op.Name(...)` adds a node.

    Vectors and scalars stay in the graph; matrices go to `data`, the open file `data_name` that
    will lie beside the graph, as soon as they are given: no more than one is ever held.
    """

    def __init__(self, data: BinaryIO, data_name: str) -> None:
        self._data = data
        self._data_name = data_name
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._scope = ""
        self._counts: dict[str, int] = {}

    def __getattr__(self, op_type: str) -> Callable[..., str]:
        """`op.Add(a, b, axis=0)`: a node with one output, whose name is returned."""
        if not op_type[:1].isupper():
            raise AttributeError(op_type)

        def add(*inputs: str, **attributes: Any) -> str:
            name = self._unique(op_type)
            self.node(op_type, inputs, [f"{name}_output"], name=name, **attributes)
            return f"{name}_output"

        return add

    def node(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        name: str = "",
        **attributes: Any,
    ) -> None:
        """Add a node whose outputs are named by the caller; an empty name is an absent value."""
        domain = MICROSOFT if op_type in CONTRIB_OPERATORS else ""
        name = name or self._unique(op_type)
        self._nodes.append(
            helper.make_node(op_type, inputs, outputs, name=name, domain=domain, **attributes)
        )

    def rename(self, value: str, name: str) -> None:
        """Give the newest node's output the name of a graph output."""
        outputs = self._nodes[-1].output
        outputs[list(outputs).index(value)] = name

    def scope(self, name: str) -> None:
        """Prefix the names of the nodes that follow, as `/h.0/attn` does."""
        self._scope = name

    def constant(self, value: NDArray[Any]) -> str:
        """A small constant; equal ones are stored once."""
        value = np.ascontiguousarray(value)
        digest = hashlib.sha256(value.tobytes()).hexdigest()[:12]
        shape = "x".join(map(str, value.shape)) or "scalar"
        return self.vector(f"constant_{value.dtype}_{shape}_{digest}", value)

    def vector(self, name: str, value: NDArray[Any]) -> str:
        """A tensor that stays in the graph itself."""
        if name not in self._initializers:
            self._initializers[name] = onnx.numpy_helper.from_array(value, name)
        return name

    def matrix(self, name: str, value: NDArray[Any]) -> str:
        """A tensor that goes to the data file."""
        value = np.ascontiguousarray(value)
        self._data.write(b"\0" * (-self._data.tell() % PAGE))
        offset = self._data.tell()
        self._data.write(memoryview(value).cast("B"))
        self._add_external(name, value.dtype, value.shape, offset, value.nbytes)
        return name

    def view(self, name: str, of: str, shape: Sequence[int]) -> str:
        """The same bytes of the data file under another name and shape."""
        tensor = self._initializers[of]
        place = {entry.key: int(entry.value) for entry in tensor.external_data[1:]}
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        self._add_external(name, dtype, shape, place["offset"], place["length"])
        return name

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The finished model; its external tensors lie in the data file."""
        graph = helper.make_graph(
            self._nodes, "gpt2", inputs, outputs, list(self._initializers.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="gpt2onnx"
        )

    def _add_external(
        self, name: str, dtype: np.dtype[Any], shape: Sequence[int], offset: int, length: int
    ) -> None:
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
            dims=shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (
            ("location", self._data_name),
            ("offset", offset),
            ("length", length),
        ):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers[name] = tensor

    def _unique(self, op_type: str) -> str:
        name = f"{self._scope}/{op_type}"
        self._counts[name] = self._counts.get(name, -1) + 1
        count = self._counts[name]
        return f"{name}_{count}" if count else name
