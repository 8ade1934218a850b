"""Embed against numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gpt2onnx_kernels
import numpy as np
import pytest
from graphs import Operator, opened
from onnx import TensorProto, helper, numpy_helper
from test_linear import rounded_weight

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((50, 40), dtype=np.float32)
PLACES = RNG.standard_normal((9, 40), dtype=np.float32)
LEVELS, SCALES, MEANS = rounded_weight(TABLE, 8, 32)
REST = dict(zip(("rest", "rest_scales"), rounded_weight(TABLE, 4, 32), strict=False))
IDS, POSITIONS = np.array([3, 49, 0, 3]), np.array([8, 0, 4, 8])


def embed(table: Any, scales: Any, **changed: Any) -> Any:
    inputs = {"ids": IDS, "positions": POSITIONS, "table": table, "scales": scales}
    inputs |= {"places": PLACES} | changed
    return Operator("Embed", inputs)()


def test_floats() -> None:
    np.testing.assert_array_equal(embed(TABLE, None), TABLE[IDS] + PLACES[POSITIONS])


def test_blocks() -> None:
    expected = MEANS[IDS] + PLACES[POSITIONS]
    np.testing.assert_allclose(embed(LEVELS, SCALES), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale_type", [np.float16, np.float32])
def test_rows_behind_the_first_have_fewer_bits(scale_type: Any) -> None:
    first, scales, many = rounded_weight(TABLE[:30], 8, 32, scale_type)
    rest, rest_scales, few = rounded_weight(TABLE[30:], 4, 32, scale_type)
    ids = np.array([29, 30, 49, 0])
    found = embed(first, scales, ids=ids, rest=rest, rest_scales=rest_scales)
    expected = np.concatenate([many, few])[ids] + PLACES[POSITIONS]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def tied(kind: str, table: Any, kernels: str, **entries: str) -> Any:
    """The embedding of a graph whose head has the same table: Linear, of 8 bits or of floats."""
    kept = {"places": PLACES, "x": np.zeros((1, 40), np.float32)}
    attributes: dict[str, Any] = {"transposed": 1}
    if kind == "float":
        kept["table"] = table
    else:
        scale_type = np.float16 if kind == "halves" else np.float32
        kept["table"], kept["scales"], _ = rounded_weight(table, 8, 32, scale_type)
        attributes = {"activation_bits": 8, "activation_block": 32}
    scales = "scales" if "scales" in kept else ""
    domain = gpt2onnx_kernels.DOMAIN
    nodes = [
        helper.make_node(
            "Embed", ["ids", "positions", "table", scales, "places"], ["rows"], domain=domain
        ),
        helper.make_node(
            "Linear", ["x", "table", scales], ["logits"], "head", domain=domain, **attributes
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "tied",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, [None])
            for name in ("ids", "positions")
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in ("rows", "logits")
        ],
        [numpy_helper.from_array(value, name) for name, value in kept.items()],
    )
    session = opened(graph, kernels, entries={f"gpt2onnx.{k}": v for k, v in entries.items()})
    return session.run(["rows"], {"ids": IDS, "positions": POSITIONS})[0]


@pytest.mark.parametrize("kernels", gpt2onnx_kernels.kernels_here())
@pytest.mark.parametrize("kind", ["float", "singles", "halves"])
def test_a_heads_packed_rows_are_read_where_there_are_some(
    kind: str, kernels: str, tmp_path: Path
) -> None:
    """As the mapped file of other weights shows: theirs are the rows."""
    scale_type = np.float16 if kind == "halves" else np.float32
    levels, scales, _ = rounded_weight(TABLE, 8, 32, scale_type)
    alone = embed(TABLE, None) if kind == "float" else embed(levels, scales)
    assert tied(kind, TABLE, kernels, pack_to=str(tmp_path)).tobytes() == alone.tobytes()
    assert tied(kind, TABLE, kernels, packed=str(tmp_path)).tobytes() == alone.tobytes()
    assert tied(kind, -TABLE, kernels, packed=str(tmp_path)).tobytes() == alone.tobytes()


def test_positions_in_half_precision() -> None:
    found, halves = embed(TABLE, None, places=PLACES.astype(np.float16)), PLACES.astype(np.float16)
    np.testing.assert_array_equal(found, TABLE[IDS] + halves[POSITIONS].astype(np.float32))


def test_no_tokens() -> None:
    nothing = np.zeros(0, np.int64)
    assert embed(TABLE, None, ids=nothing, positions=nothing).shape == (0, 40)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ids": np.array([3, 50, 0, 3])}, "ids has 50, expected 0 to 49"),
        ({"ids": np.array([3, -1, 0, 3])}, "ids has -1"),
        ({"positions": np.array([0, 1, 2, 9])}, "positions has 9, expected 0 to 8"),
        ({"positions": np.array([0, 1])}, r"positions has the shape \[2\], expected \[4\]"),
        ({"places": PLACES[:, :30]}, r"expected \[vocab, 30\]"),
        ({"places": PLACES.astype(np.float64)}, "places has to be float32 or float16"),
        ({"rest": LEVELS}, r"rest has the shape .* with scales"),
        ({"ids": np.array([3, 100, 0, 3]), **REST}, "ids has 100, expected 0 to 99"),
    ],
)
def test_what_does_not_fit_is_told(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        embed(TABLE, None, **changed)


def test_blocks_without_scales_are_refused() -> None:
    with pytest.raises(Exception, match="with scales"):
        embed(LEVELS, None)
