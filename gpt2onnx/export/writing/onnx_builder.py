"""Builds an ONNX graph, one call a node, and streams its weights to a data file.

Knows ONNX's data structures and the layout of external data; knows nothing of GPT-2. Values are the
names that ONNX itself uses, so an expression reads like the formula it stands for:

    hidden = op.Add(op.Mul(x, scale), bias)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import TensorProto, helper

OPSET = 21
# Both ONNX Runtime 1.31 and onnx 1.19 know IR version 10; onnx writes its newest unless told.
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
        "SkipLayerNormalization",
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

    def __init__(self, data: BinaryIO, data_name: str, opset: int = OPSET) -> None:
        self.opset = opset
        self._data = data
        self._data_name = data_name
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._scope = ""
        self._counts: dict[str, int] = {}

    def __getattr__(self, op_type: str) -> Callable[..., str]:
        """`op.Add(a, b)`: a node with one output, whose name is returned."""
        if op_type not in CONTRIB_OPERATORS and not onnx.defs.has(op_type, self.opset, ""):
            raise AttributeError(f"{op_type}: no operator of opset {self.opset}, nor a contrib one")

        def add(*inputs: str, **attributes: Any) -> str:
            output = self._unique(op_type)
            self.node(op_type, inputs, [output], **attributes)
            return output

        return add

    def node(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        """Add a node whose outputs are named by the caller; an empty input is an absent one.

        The node itself is called as its first output is. Absent inputs at the end are left out, as
        a runtime whose operator has fewer of them wants.
        """
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        domain = MICROSOFT if op_type in CONTRIB_OPERATORS else ""
        self._nodes.append(
            helper.make_node(op_type, inputs, outputs, name=outputs[0], domain=domain, **attributes)
        )

    def split(self, value: str, sizes: Sequence[int], axis: int = -1) -> list[str]:
        """Parts of these sizes along an axis."""
        outputs = [self._unique("Split") for _ in sizes]
        self.node("Split", [value, self.constant(sizes, np.int64)], outputs, axis=axis)
        return outputs

    def sum_of_halves(self, rows: str, width: int) -> str:
        """[2 * n, width] -> [n, width]: the first n rows plus the others.

        A product by ones, which is as exact as ReduceSum and several times as fast.
        """
        halves = self.Reshape(rows, self.constant([2, -1], np.int64))
        total = self.MatMul(self.constant([1, 1], np.float32), halves)
        return self.Reshape(total, self.constant([-1, width], np.int64))

    def rename(self, value: str, name: str) -> None:
        """Give `value`, which the newest node puts out, the name of a graph output."""
        outputs = self._nodes[-1].output
        outputs[list(outputs).index(value)] = name

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Begin the names of the nodes added inside with `name`, as in `/h.0.attn/Reshape`."""
        outer, self._scope = self._scope, f"/{name}"
        try:
            yield
        finally:
            self._scope = outer

    def constant(self, value: ArrayLike, dtype: DTypeLike) -> str:
        """A scalar or a few numbers; equal ones are stored once."""
        array = np.array(value, dtype)
        name = f"constant_{array.dtype}_{array.tolist()}"
        return name if name in self._initializers else self.vector(name, array)

    def vector(self, name: str, value: NDArray[Any]) -> str:
        """A tensor that stays in the graph itself."""
        self._initializers[name] = onnx.numpy_helper.from_array(value, name)
        return name

    def matrix(self, name: str, value: NDArray[Any]) -> str:
        """A tensor that goes to the data file."""
        value = np.ascontiguousarray(value)
        self._data.write(b"\0" * (-self._data.tell() % PAGE))
        place = {
            "location": self._data_name,
            "offset": self._data.tell(),
            "length": value.nbytes,
        }
        self._data.write(value.data)
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
            dims=value.shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, entry in place.items():
            tensor.external_data.add(key=key, value=str(entry))
        self._initializers[name] = tensor
        return name

    def view(self, name: str, of: str, shape: Sequence[int]) -> str:
        """The same bytes of the data file under another name and shape."""
        tensor = TensorProto()
        tensor.CopyFrom(self._initializers[of])
        tensor.name, tensor.dims[:] = name, shape
        self._initializers[name] = tensor
        return name

    @property
    def initializers(self) -> Mapping[str, TensorProto]:
        """All tensors stored so far, whether a node reads them or not, by name."""
        return self._initializers

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The finished model; its external tensors lie in the data file.

        Of initializers, those that a node reads: a view may stand for what it was made of.
        """
        read = {name for node in self._nodes for name in node.input}
        stored = [tensor for name, tensor in self._initializers.items() if name in read]
        graph = helper.make_graph(self._nodes, "gpt2", inputs, outputs, stored)
        versions = {"": self.opset, MICROSOFT: 1}
        used = {"", *(node.domain for node in self._nodes)}
        opsets = [helper.make_opsetid(name, versions[name]) for name in sorted(used)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="gpt2onnx"
        )

    def _unique(self, op_type: str) -> str:
        name = f"{self._scope}/{op_type}"
        self._counts[name] = self._counts.get(name, -1) + 1
        count = self._counts[name]
        return f"{name}_{count}" if count else name
