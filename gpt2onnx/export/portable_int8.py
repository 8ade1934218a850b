"""The portable graph's matrices in 8 bits: blocks, which DequantizeLinear multiplies out.

All in standard operators, which any runtime computes in single precision. ONNX Runtime makes one
MatMulNBits of a DequantizeLinear and its MatMul, as in the fused graph, and rounds activations to 8
bits there; so attention's matrices are given 16 in two parts, as in the fused graph.
https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
https://github.com/microsoft/onnxruntime/pull/27614

Knows a traced graph's nodes; knows nothing of who traced it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from gpt2onnx.export.blocks import BLOCK_SIZE, StandardBlockMatrix
from gpt2onnx.export.builder import GraphBuilder
from gpt2onnx.export.quantize import quantize_blocks

SIGN = np.uint8(128)


def quantize(path: Path, data: Path, embedding: str) -> None:
    """Round the matrices of the model at `path`, which go to the file `data` beside it.

    embedding: the initializer [vocab, width] that Gather reads. Other tables, such as the
    positions', stay as they are.
    """
    graph = onnx.load(path).graph
    data.unlink(missing_ok=True)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    with data.open("wb") as file:
        op = GraphBuilder(file, data.name)
        for node in graph.node:
            with op.scope(node.name.lstrip("/")):
                _add(op, node, stored, embedding)
        read = {name for node in op.nodes for name in node.input}
        for tensor in graph.initializer:
            if tensor.name in read:
                op.keep_initializer(tensor)
        path.write_bytes(op.model(graph.input, graph.output).SerializeToString())


def _add(
    op: GraphBuilder, node: NodeProto, stored: Mapping[str, TensorProto], embedding: str
) -> None:
    """The node as it is, or what takes its place."""
    if node.op_type == "Gather" and node.input[0] == embedding:
        found = _gather(op, node, numpy_helper.to_array(stored[embedding]))
    elif node.op_type in ("Gemm", "MatMul") and node.input[1] in stored:
        found = _multiply(op, node, numpy_helper.to_array(stored[node.input[1]]))
    else:
        op.keep(node)
        return
    op.rename(found, node.output[0])


def _multiply(op: GraphBuilder, node: NodeProto, weight: NDArray[np.float32]) -> str:
    """A product with weight [width, out]; Gemm's has a bias and two dimensions."""
    name = node.input[1]
    values, scales = _blocks(weight.T)
    matrix = StandardBlockMatrix(
        op,
        op.matrix(f"{name}_q8", values.T),
        op.matrix(f"{name}_scales", scales.T),
        bits=8,
        width=len(weight),
        out=weight.shape[1],
    )
    if node.op_type == "MatMul":
        return matrix.multiply(node.input[0])
    fine = "/attn/" in node.name
    product = (matrix.multiply_finely if fine else matrix.multiply)(node.input[0])
    return op.Add(product, node.input[2])


def _gather(op: GraphBuilder, node: NodeProto, weight: NDArray[np.float32]) -> str:
    """Rows of weight [vocab, width], for ids [batch, sequence]."""
    name, ids = node.input
    values, scales = _blocks(weight)
    rows = op.Gather(op.matrix(f"{name}_q8", values), ids)
    steps = op.Gather(op.matrix(f"{name}_scales", scales), ids)
    gathered = op.DequantizeLinear(rows, steps, axis=2, block_size=BLOCK_SIZE)
    if values.shape == weight.shape:
        return gathered
    start, end, axis = (op.constant([n], np.int64) for n in (0, weight.shape[1], 2))
    return op.Slice(gathered, start, end, axis)


def _blocks(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """weight [out, in] as int8 [out, padded] and scales [out, blocks]."""
    values, scales = quantize_blocks(weight, 8, BLOCK_SIZE)
    return (values.reshape(len(weight), -1) ^ SIGN).view(np.int8), scales
