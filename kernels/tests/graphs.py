"""Graphs of one operator, run by ONNX Runtime with the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import gpt2onnx_kernels
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
NO_ENTRIES: Mapping[str, str] = MappingProxyType({})


class Operator:
    """One node, with `None` for an absent input; `constants` are initializers, `fed` are inputs.

    `outputs` are the types of those that it gives, `entries` the session's configuration.
    """

    def __init__(
        self,
        op_type: str,
        inputs: Mapping[str, Array | None],
        constants: frozenset[str] = frozenset(),
        kernels: str = "",
        threads: int = 2,
        outputs: Sequence[int] = (TensorProto.FLOAT,),
        entries: Mapping[str, str] = NO_ENTRIES,
        name: str = "tested",
        **attributes: Any,
    ) -> None:
        self.fed = {k: v for k, v in inputs.items() if v is not None and k not in constants}
        fixed = [
            numpy_helper.from_array(v, k)
            for k, v in inputs.items()
            if k in constants and v is not None
        ]
        names = [k if v is not None else "" for k, v in inputs.items()]
        given = [f"out{place}" for place in range(len(outputs))]
        node = helper.make_node(
            op_type, names, given, name=name, domain=gpt2onnx_kernels.DOMAIN, **attributes
        )
        infos = [
            helper.make_tensor_value_info(
                k, helper.np_dtype_to_tensor_dtype(v.dtype), [None] * v.ndim
            )
            for k, v in self.fed.items()
        ]
        outs = [
            helper.make_tensor_value_info(name, element, [None, None])
            for name, element in zip(given, outputs, strict=True)
        ]
        graph = helper.make_graph([node], "one", infos, outs, fixed)
        self.session = opened(graph, kernels, threads, entries)

    def __call__(self, **inputs: Array) -> Array:
        """The first output; inputs that aren't given are those that the operator was made with."""
        return self.all(**inputs)[0]

    def all(self, **inputs: Array) -> list[Array]:
        """Every output."""
        found: list[Array] = self.session.run(None, {**self.fed, **inputs})
        return found


def opened(
    graph: onnx.GraphProto,
    kernels: str = "",
    threads: int = 2,
    entries: Mapping[str, str] = NO_ENTRIES,
) -> onnxruntime.InferenceSession:
    """A session with the library's operators."""
    ours = helper.make_opsetid(gpt2onnx_kernels.DOMAIN, gpt2onnx_kernels.OPSET)
    opsets = [helper.make_opsetid("", 21), ours]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    options.register_custom_ops_library(str(gpt2onnx_kernels.library()))
    with pytest.MonkeyPatch.context() as patch:
        if kernels:  # else those of the environment
            patch.setenv(gpt2onnx_kernels.KERNELS_VARIABLE, kernels)
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
