from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpt2onnx.export.writing.onnx_builder import (
    CONTRIB_OPERATORS,
    IR_VERSION,
    MICROSOFT,
    OPSET,
    PAGE,
    GraphBuilder,
)
from tests.export.small_graph import run, write


@pytest.fixture
def op() -> GraphBuilder:
    return GraphBuilder(io.BytesIO(), "data")


def graph(op: GraphBuilder) -> onnx.GraphProto:
    return op.model([], []).graph


def external(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def test_an_expression_computes_what_it_reads(tmp_path: Path) -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    weight, bias = np.array([[2.0], [-1.0]], np.float32), np.array([10.0], np.float32)

    def build(op: GraphBuilder) -> list[str]:
        product = op.MatMul("x", op.matrix("weight", weight))
        return [op.Mul(op.Add(product, op.vector("bias", bias)), op.constant(0.5, np.float32))]

    np.testing.assert_array_equal(run(tmp_path, build, x=x), [(x @ weight + bias) / 2])


def test_nodes_are_named_by_scope_operator_and_number(op: GraphBuilder) -> None:
    op.Relu("x")
    with op.scope("h.0"):
        op.Relu("x")
        with op.scope("h.0.attn"):
            op.Relu("x")
            op.Relu("x")
        op.Relu("x")
    names = ["/Relu", "/h.0/Relu", "/h.0.attn/Relu", "/h.0.attn/Relu_1", "/h.0/Relu_1"]
    assert [node.name for node in graph(op).node] == names
    assert [node.output[0] for node in graph(op).node] == names


def test_attributes_and_domains(op: GraphBuilder) -> None:
    op.LeakyRelu("x", alpha=0.25)
    op.QuickGelu("x", alpha=1.0)
    leaky, quick = graph(op).node
    assert (leaky.domain, quick.domain) == ("", MICROSOFT)
    assert helper.get_node_attr_value(leaky, "alpha") == 0.25


def test_an_operator_that_does_not_exist_is_an_attribute_error(op: GraphBuilder) -> None:
    for name in ("Matmul", "relu", "__deepcopy__", "FusedMatMul"):
        with pytest.raises(AttributeError, match=name):
            getattr(op, name)
    assert not graph(op).node


def test_contrib_operators_are_not_onnx_own() -> None:
    assert not [name for name in CONTRIB_OPERATORS if onnx.defs.has(name, OPSET, "")]


def test_several_outputs_and_absent_inputs(op: GraphBuilder) -> None:
    inputs = ["qkv", "", "", "past", "", ""]
    op.node("GroupQueryAttention", inputs, ["out", "key", "value"], num_heads=2)
    (node,) = graph(op).node
    assert list(node.input) == ["qkv", "", "", "past"]
    assert list(node.output) == ["out", "key", "value"]
    assert (node.name, node.domain) == ("out", MICROSOFT)


def test_rename_names_an_output_of_the_newest_node(op: GraphBuilder) -> None:
    first = op.Relu("x")
    second = op.Relu(first)
    op.rename(second, "y")
    assert [list(node.output) for node in graph(op).node] == [[first], ["y"]]
    with pytest.raises(ValueError, match="not in list"):
        op.rename(first, "z")


def test_equal_constants_are_stored_once_and_unequal_ones_apart(op: GraphBuilder) -> None:
    values = [
        (1, np.float32),
        ([1], np.float32),
        ([[1]], np.float32),
        (1, np.float16),
        (1, np.int64),
        (0.0, np.float32),
        (-0.0, np.float32),
        (np.nextafter(np.float32(1), np.float32(2)), np.float32),
    ]
    names = [op.constant(value, dtype) for value, dtype in values]
    assert names == [op.constant(value, dtype) for value, dtype in values]
    op.Concat(*names, axis=0)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph(op).initializer}
    assert list(stored) == names
    for name, (value, dtype) in zip(names, values, strict=True):
        expected = np.array(value, dtype)
        assert (stored[name].dtype, stored[name].shape) == (expected.dtype, expected.shape)
        assert stored[name].tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8])
def test_matrices_lie_in_the_data_file_on_pages(dtype: type[np.generic]) -> None:
    data = io.BytesIO()
    op = GraphBuilder(data, "model.onnx.data")
    matrices = {
        "first": np.arange(15).reshape(3, 5).astype(dtype),
        "transposed": np.arange(PAGE).reshape(2, -1).astype(dtype).T,
        "last": np.ones((1, 1), dtype),
    }
    assert [op.matrix(name, value) for name, value in matrices.items()] == list(matrices)
    op.Concat(*matrices, axis=0)
    tensors = {tensor.name: tensor for tensor in graph(op).initializer}
    for name, value in matrices.items():
        place, tensor = external(tensors[name]), tensors[name]
        offset, length = int(place["offset"]), int(place["length"])
        assert place["location"] == "model.onnx.data"
        assert offset % PAGE == 0
        assert data.getvalue()[offset : offset + length] == value.tobytes()
        assert tuple(tensor.dims) == value.shape
        assert helper.tensor_dtype_to_np_dtype(tensor.data_type) == dtype
        assert not tensor.raw_data


def test_what_no_node_reads_is_left_out(op: GraphBuilder) -> None:
    of = op.matrix("matrix", np.ones((2, 3), np.float32))
    op.Identity(op.view("view", of, [3, 2]))
    assert [tensor.name for tensor in graph(op).initializer] == ["view"]


def test_a_view_is_the_same_bytes_in_another_shape(tmp_path: Path) -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)

    def build(op: GraphBuilder) -> list[str]:
        name = op.matrix("matrix", matrix)
        flat = op.view("flat", name, [2, 6])
        return [op.Identity(name), op.Identity(flat)]

    original, viewed = run(tmp_path, build)
    np.testing.assert_array_equal(original, matrix)
    np.testing.assert_array_equal(viewed, matrix.reshape(2, 6))
    assert (tmp_path / "graph.onnx.data").stat().st_size == matrix.nbytes


def test_the_model_says_what_it_needs(tmp_path: Path) -> None:
    path = write(tmp_path, lambda op: [op.Relu("x")], x=np.zeros(1, np.float32))
    model = onnx.load(path)
    assert model.ir_version == IR_VERSION
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 21}
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
