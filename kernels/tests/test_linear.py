"""Linear against numpy in double precision, and against itself for the same bits."""

from __future__ import annotations

import math
from typing import Any

import gpt2onnx_kernels
import numpy as np
import pytest
from graphs import Array, Operator
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

KERNELS = gpt2onnx_kernels.kernels_here()
DIRECTED = ("directions", "direction_scales", "corrections", "correction_scales")
CONSTANTS = frozenset({"weight", "scales", "rest", "rest_scales", *DIRECTED})
LEVELS = {8: 127, 16: 127 * 256}
ERF = np.vectorize(math.erf)
ACTIVATIONS: dict[str, Any] = {
    "linear": lambda x: x,
    "gelu": lambda x: x / 2 * (1 + ERF(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_10": lambda x: np.clip(x / 2 * (1 + ERF(x / math.sqrt(2))), -10, 10),
    "laplace": lambda x: 0.5 * (1 + ERF((x - 0.707107) / (0.282095 * math.sqrt(2)))),
    "leaky_relu": lambda x: np.where(x < 0, 0.01 * x, x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def rounded_weight(
    weight: Array, bits: int, block: int, scale_type: Any = np.float32
) -> tuple[Array, Array, Array]:
    """weight [out, in] as MatMulNBits has it, and what it then means [out, in]."""
    out, width = weight.shape
    blocks = -(-width // block)
    filled = np.zeros((out, blocks * block), np.float32)
    filled[:, :width] = weight
    filled = filled.reshape(out, blocks, block)
    half = 2 ** (bits - 1)
    scales = (np.abs(filled).max(axis=2) / (half - 1) + 1e-7).astype(scale_type)
    levels = np.clip(np.rint(filled / scales[..., None]) + half, 0, 2 * half - 1).astype(np.uint8)
    means = (levels.astype(float) - half) * scales[..., None].astype(float)
    if bits == 4:
        levels = levels[..., 0::2] | levels[..., 1::2] << 4
    return levels, scales, means.reshape(out, -1)[:, :width]


def rounded_column(weight: Array) -> tuple[Array, Array, Array]:
    """weight [out, in] as int8 [in, out] with a scale an output, and what it then means."""
    scales = (np.abs(weight).max(axis=1) / 127 + 1e-9).astype(np.float32)
    levels = np.rint(weight / scales[:, None]).astype(np.int8)
    return np.ascontiguousarray(levels.T), scales, levels.astype(float) * scales[:, None]


def rounded_rows(x: Array, bits: int, block: int) -> tuple[Array, Array]:
    """What x [tokens, in] becomes, in blocks or, of 0, by token; and the steps, as wide."""
    tokens, width = x.shape
    block = block or width
    blocks = -(-width // block)
    filled = np.zeros((tokens, blocks * block), np.float32)
    filled[:, :width] = x
    filled = filled.reshape(tokens, blocks, block)
    largest = np.abs(filled).max(axis=2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(largest > 1e-30, np.float32(LEVELS[bits]) / largest, np.float32(0))
    steps = largest / np.float32(LEVELS[bits])
    means = np.rint(filled * factor).astype(float) * steps
    wide = np.broadcast_to(steps, filled.shape)
    return means.reshape(tokens, -1)[:, :width], wide.reshape(tokens, -1)[:, :width]


def normalized(x: Array, gain: Array, bias: Array, epsilon: float) -> Array:
    wide = x.astype(float)
    apart = wide - wide.mean(axis=1, keepdims=True)
    return apart / np.sqrt((apart**2).mean(axis=1, keepdims=True) + epsilon) * gain + bias


CASES = st.fixed_dictionaries(
    {
        "tokens": st.integers(1, 20) | st.integers(33, 80),
        "width": st.integers(1, 200),
        "out": st.integers(1, 70),
        "weights": st.sampled_from(["float", "transposed", "column", "8", "4"]),
        "block": st.sampled_from([16, 32, 64, 128]),
        "activation_bits": st.sampled_from([8, 16]),
        "by_token": st.booleans(),
        "rank": st.sampled_from([0, 16, 32]),
        "rest_bits": st.sampled_from([0, 4, 8]),
        "scale_type": st.sampled_from([np.float16, np.float32]),
        "bias": st.booleans(),
        "norm": st.booleans(),
        "residual": st.booleans(),
        "selection": st.booleans(),
        "activation": st.sampled_from(sorted(ACTIVATIONS)),
        "kernels": st.sampled_from(KERNELS),
        "seed": st.integers(0, 2**32 - 1),
    }
)


def made(case: dict[str, Any]) -> tuple[dict[str, Array | None], dict[str, Any], Array, Array]:
    """A case's inputs, attributes, the expected output and how far off it may be."""
    rng = np.random.default_rng(case["seed"])

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32)

    x, weight = normal(case["tokens"], case["width"]), normal(case["out"], case["width"])
    weight /= np.sqrt(np.float32(case["width"]))
    attributes: dict[str, Any] = {"activation": case["activation"], "epsilon": 1e-5}
    scales, kind = None, case["weights"]
    if kind in ("float", "transposed"):
        stored = weight if kind == "transposed" else np.ascontiguousarray(weight.T)
        means = weight.astype(float)
        attributes["transposed"] = int(kind == "transposed")
    else:
        block = 0 if case["by_token"] else case["block"]
        attributes |= {"activation_bits": case["activation_bits"], "activation_block": block}
        if kind == "column":
            stored, scales, means = rounded_column(weight)
        else:
            attributes |= {"bits": int(kind), "block_size": case["block"]}
            first, how = outputs_before_rest(case), (case["block"], case["scale_type"])
            stored, scales, means = rounded_weight(weight[:first], int(kind), *how)
    inputs: dict[str, Array | None] = {"x": x, "weight": stored, "scales": scales}
    inputs |= dict.fromkeys(["bias", "norm_gain", "norm_bias", "residual", "selection"])
    if len(means) < case["out"]:
        rest, rest_scales, others = rounded_weight(weight[first:], case["rest_bits"], *how)
        inputs |= dict.fromkeys(DIRECTED) | {"rest": rest, "rest_scales": rest_scales}
        means = np.concatenate([means, others])
    rows = x.astype(float)
    if case["norm"]:
        inputs["norm_gain"], inputs["norm_bias"] = normal(case["width"]), normal(case["width"])
        rows = normalized(x, inputs["norm_gain"], inputs["norm_bias"], 1e-5)
    if case["selection"]:
        inputs["selection"] = rng.integers(0, case["tokens"], rng.integers(1, 9))
        rows = rows[inputs["selection"]]
    slack = 2e-6 * (np.abs(rows) @ np.abs(means).T) + 1e-5
    if scales is not None:
        exact = rows.astype(np.float32)
        rows, steps = rounded_rows(exact, case["activation_bits"], block)
        if case["norm"]:  # a hair's breadth before rounding is a step behind it, now and then
            slack = slack + 3 * (steps[:, :1] * np.ones_like(steps)).max(axis=1, keepdims=True) * (
                np.abs(means).max(axis=1)
            )
    expected = rows @ means.T
    if has_directions(case):
        along, added = normal(case["rank"], case["width"]), normal(case["out"], case["rank"])
        given, correction, most = corrected(
            exact, rows, steps, along, added, case["block"], int(case["weights"])
        )
        inputs, expected, slack = inputs | given, expected + correction, slack + most
    if case["bias"]:
        inputs["bias"] = normal(case["out"])
        expected = expected + inputs["bias"]
    if case["activation"] == "relu2":
        slack = slack * (2 * np.abs(expected) + 1)
    if case["activation"] in ("gelu_tanh", "quick_gelu", "mish", "laplace", "leaky_relu"):
        slack = slack * 1.5
    expected = ACTIVATIONS[case["activation"]](expected)
    if case["residual"]:
        inputs["residual"] = normal(case["tokens"], case["out"])
        chosen = slice(None) if inputs["selection"] is None else inputs["selection"]
        expected = expected + inputs["residual"][chosen]
    return inputs, attributes, expected, slack


def outputs_before_rest(case: dict[str, Any]) -> int:
    """All of them, where there is no rest."""
    first: int = case["out"] // 32 * 16
    has = case["weights"] in ("8", "4") and case["rest_bits"] and not has_directions(case)
    return first if has and first else case["out"]


def has_directions(case: dict[str, Any]) -> bool:
    rounded = case["weights"] in ("8", "4")
    by_block = rounded and case["activation_bits"] == 8 and not case["by_token"]
    return by_block and 0 < case["rank"] <= case["block"]


def corrected(
    x: Array, rounded: Array, steps: Array, along: Array, added: Array, block: int, bits: int = 8
) -> tuple[dict[str, Array], Array, Array]:
    """The inputs of x [tokens, in]'s corrections, what they add, and how far off that may be."""
    directions, direction_scales, along = rounded_weight(along, 8, block)
    corrections, correction_scales, added = rounded_weight(added, bits, added.shape[1])
    finer = np.where(steps == 0, 1, steps).astype(float) / 254
    rest = np.clip(np.rint((x - rounded) / finer), -127, 127) * finer
    measured = (rest @ along.T).astype(np.float32)
    lengths, step = rounded_rows(measured, 8, 0)
    # Where the rest, or a length, lies between two levels, either is right.
    off = finer.max(axis=1, keepdims=True) * np.abs(along).max() + 1.01 * step[:, :1]
    given = {
        "directions": directions,
        "direction_scales": direction_scales,
        "corrections": corrections,
        "correction_scales": correction_scales,
    }
    return given, lengths @ added.T, off * np.abs(added).sum(axis=1)


def operator(case: dict[str, Any], inputs: dict[str, Any], attributes: dict[str, Any]) -> Operator:
    return Operator("Linear", inputs, CONSTANTS, case["kernels"], **attributes)


@settings(max_examples=150, deadline=None)
@given(CASES)
def test_is_what_numpy_says(case: dict[str, Any]) -> None:
    inputs, attributes, expected, slack = made(case)
    found = operator(case, inputs, attributes)()
    assert found.shape == expected.shape
    worst = (np.abs(found - expected) / slack).max()
    assert worst < 1, worst


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_every_processor_has_the_same_bits(case: dict[str, Any]) -> None:
    inputs, attributes, *_ = made(case)
    found = [operator(case | {"kernels": name}, inputs, attributes)() for name in KERNELS]
    assert all(each.tobytes() == found[0].tobytes() for each in found)


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_gives_the_rows_behind_the_layer_norm_too(case: dict[str, Any]) -> None:
    """With the bits of every processor, and none of the product's changed."""
    inputs, attributes, *_ = made(case | {"norm": True})
    outputs = (TensorProto.FLOAT,) * 2
    alone = operator(case, inputs, attributes)()
    found = [
        Operator("Linear", inputs, CONSTANTS, name, outputs=outputs, **attributes).all()
        for name in KERNELS
    ]
    x, gain, bias = (inputs[name] for name in ("x", "norm_gain", "norm_bias"))
    chosen = slice(None) if inputs["selection"] is None else inputs["selection"]
    expected = normalized(x, gain, bias, 1e-5)[chosen]
    for product, rows in found:
        assert product.tobytes() == alone.tobytes()
        assert rows.tobytes() == found[0][1].tobytes()
    np.testing.assert_allclose(found[0][1], expected, rtol=1e-4, atol=1e-4)


def test_products_are_all_but_exact_along_the_directions() -> None:
    """Along all there are, so that nothing is left but what rounding the rest leaves."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((9, 32), dtype=np.float32)
    levels, scales, weight = rounded_weight(rng.standard_normal((48, 32)).astype(np.float32), 8, 32)
    inputs: dict[str, Array | None] = {"x": x, "weight": levels, "scales": scales}
    inputs |= dict.fromkeys(["bias", "norm_gain", "norm_bias", "residual", "selection"])
    options = {"activation_bits": 8, "activation_block": 32}
    plain = Operator("Linear", inputs, CONSTANTS, **options)()
    steps, rest = rounded_rows(x, 8, 32)[1], x - rounded_rows(x, 8, 32)[0]
    eye = np.eye(32, dtype=np.float32)
    given, *_ = corrected(x, x - rest, steps, eye, weight.astype(np.float32), 32)
    exact = Operator("Linear", inputs | given, CONSTANTS, **options)()
    expected = x.astype(float) @ weight.T
    assert np.abs(exact - expected).max() < np.abs(plain - expected).max() / 40


@pytest.mark.parametrize("weights", ["float", "column", "8", "directions", "4", "rest"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_row_does_not_depend_on_what_shares_its_run(weights: str, bits: int) -> None:
    by_token, rest_bits = weights != "directions", 4 * (weights == "rest")
    weights = "8" if weights in ("directions", "rest") else weights
    case = {
        "tokens": 64,
        "width": 768,
        "out": 100,
        "weights": weights,
        "block": 32,
        "activation_bits": bits,
        "by_token": by_token,
        "rank": 16,
        "rest_bits": rest_bits,
        "scale_type": np.float32,
        "bias": True,
        "norm": True,
        "residual": False,
        "selection": False,
        "activation": "gelu_tanh",
        "kernels": "",
        "seed": 1,
    }
    inputs, attributes, *_ = made(case)
    run = operator(case, inputs, attributes)
    whole, x = run(), inputs["x"]
    for count in range(1, 65):
        assert run(x=x[:count]).tobytes() == whole[:count].tobytes(), count
        assert run(x=x[64 - count :]).tobytes() == whole[64 - count :].tobytes(), count


def test_no_tokens_give_no_rows() -> None:
    inputs = {"x": np.zeros((0, 32), np.float32), "weight": np.zeros((32, 5), np.float32)}
    assert Operator("Linear", inputs, frozenset({"weight"}))().shape == (0, 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("bits", "block", "with_directions"), [(8, 0, False), (16, 0, False), (8, 32, True)]
)
def test_what_is_no_number_stays_none_and_in_its_row(
    bits: int, block: int, with_directions: bool, kernels: str, bad: float
) -> None:
    x = np.ones((3, 64), np.float32)
    x[1, 40] = bad
    inputs: dict[str, Any] = {"x": x, "weight": BLOCKS, "scales": SCALES}
    if with_directions:
        inputs |= dict.fromkeys(["bias", "norm_gain", "norm_bias", "residual", "selection"])
        inputs |= directed()
    found = Operator(
        "Linear", inputs, CONSTANTS, kernels, activation_bits=bits, activation_block=block
    )()
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()


def test_rows_of_nothing_or_next_to_nothing_are_zeros() -> None:
    stored, scales, _ = rounded_weight(np.ones((4, 64), np.float32), 8, 32)
    x = np.stack([np.zeros(64, np.float32), np.full(64, 1e-38, np.float32)])
    inputs = {"x": x, "weight": stored, "scales": scales}
    run = Operator("Linear", inputs, frozenset({"weight", "scales"}), activation_bits=8)
    assert (run() == 0).all()


def directed(**changed: Any) -> dict[str, Any]:
    """A weight [4, 64]'s 16 directions, in blocks of 32, with changes."""
    whole = {
        "directions": np.full((16, 2, 32), 128, np.uint8),
        "direction_scales": np.ones((16, 2), np.float32),
        "corrections": np.full((4, 1, 16), 128, np.uint8),
        "correction_scales": np.ones((4, 1), np.float32),
    }
    return whole | changed


def more(**changed: Any) -> dict[str, Any]:
    """A weight of 16 outputs, and 4 more of its own kind, with changes."""
    return {"weight": MANY, "scales": MANY_SCALES, "rest": BLOCKS, "rest_scales": SCALES} | changed


BY_BLOCK = {"activation_bits": 8, "activation_block": 32}
BLOCKS, SCALES, _ = rounded_weight(np.ones((4, 64), np.float32), 8, 32)
MANY, MANY_SCALES, _ = rounded_weight(np.ones((16, 64), np.float32), 8, 32)
X = np.zeros((2, 64), np.float32)
INT8 = {"activation_bits": 8}


@pytest.mark.parametrize(
    ("changed", "attributes", "message"),
    [
        (
            {"x": np.zeros((1,) * 9, np.float32)},
            INT8,
            "a tensor has 9 dimensions, expected 8 at most",
        ),
        ({"x": np.zeros((2, 65), np.float32)}, INT8, r"x has the shape \[2, 65\], the weight 64"),
        ({"x": np.zeros((2, 32), np.float32)}, INT8, r"x has the shape \[2, 32\], the weight 64"),
        ({"x": np.zeros((2, 1, 64), np.float32)}, INT8, r"expected \[tokens, in\]"),
        ({"scales": np.ones((4, 3), np.float32)}, INT8, r"scales has the shape \[4, 3\]"),
        ({"scales": None}, INT8, "rounded weights need scales"),
        ({"weight": BLOCKS[:, :, :30]}, INT8, r"expected uint8 \[out, blocks, 32\]"),
        ({"weight": BLOCKS.astype(np.int64)}, INT8, "float32, uint8 or int8"),
        ({"bias": np.zeros(5, np.float32)}, INT8, r"bias has the shape \[5\], expected \[4\]"),
        ({"norm_gain": np.zeros(64, np.float32)}, INT8, "go together"),
        ({"residual": np.zeros((3, 4), np.float32)}, INT8, r"residual has the shape \[3, 4\]"),
        ({"selection": np.array([2])}, INT8, "the token 2 of 2"),
        ({"selection": np.array([-1])}, INT8, "the token -1 of 2"),
        ({}, {}, "activation_bits is 0, expected 8 or 16"),
        ({}, INT8 | {"bits": 3}, "bits is 3"),
        ({}, INT8 | {"block_size": 31}, "block_size is 31"),
        ({}, INT8 | {"block_size": -32}, "block_size is -32"),
        ({}, INT8 | {"block_size": 512}, "block_size is 512"),
        ({}, INT8 | {"activation_block": 64}, "expected 0 or the weights' block_size, 32"),
        ({}, INT8 | {"activation_block": 7}, "activation_block is 7"),
        ({}, INT8 | {"activation": "swosh"}, "unknown activation swosh"),
        (directed(), INT8, "directions are for 8 bits of activations, by block"),
        (directed(), BY_BLOCK | {"activation_bits": 16}, "directions are for 8 bits"),
        (directed(corrections=None), BY_BLOCK, "directions, corrections and their scales go toget"),
        (
            directed(directions=np.zeros((8, 2, 32), np.uint8)),
            BY_BLOCK,
            r"direction_scales has the shape \[16, 2\], expected \[8, 2\]",
        ),
        (
            directed(directions=np.zeros((16, 1, 32), np.uint8), direction_scales=SCALES[:1].T),
            BY_BLOCK,
            r"direction_scales has the shape \[2, 1\], expected \[16, 1\]",
        ),
        (
            directed(
                directions=np.zeros((16, 1, 32), np.uint8),
                direction_scales=np.ones((16, 1), np.float32),
            ),
            BY_BLOCK,
            r"directions have the shape \[16, 1, 32\], corrections \[4, 1, 16\], which don't fit",
        ),
        (
            directed(
                directions=np.zeros((20, 2, 32), np.uint8),
                direction_scales=np.ones((20, 2), np.float32),
            ),
            BY_BLOCK,
            "there are 20 directions, expected a multiple of 16 up to the block_size, 32",
        ),
        (
            directed(corrections=np.zeros((4, 1, 17), np.uint8)),
            BY_BLOCK,
            r"corrections has the shape \[4, 1, 17\], expected uint8 \[out, blocks, 16\]",
        ),
        (more(rest_scales=None), INT8, "rest and rest_scales go together"),
        (more(rest=BLOCKS[:, :1]), INT8, r"rest_scales has the shape \[4, 2\], expected \[4, 1\]"),
        (more(rest=BLOCKS[:, :1], rest_scales=SCALES[:, :1]), INT8, "doesn't fit the weight"),
        (more() | {"weight": BLOCKS, "scales": SCALES}, INT8, "has 4 outputs, expected a multiple"),
        (
            directed(corrections=MANY[:, :1, :16], correction_scales=MANY_SCALES[:, :1]) | more(),
            BY_BLOCK,
            "rest and directions don't go together",
        ),
        (more() | {"weight": X.T, "scales": None}, {}, "are for uint8 weights"),
        ({"scales": SCALES.astype(np.float64)}, INT8, "scales has to be float32 or float16"),
    ],
)
def test_what_does_not_fit_is_told(
    changed: dict[str, Any], attributes: dict[str, Any], message: str
) -> None:
    inputs: dict[str, Any] = {"x": X, "weight": BLOCKS, "scales": SCALES, "bias": None}
    inputs |= dict.fromkeys(["norm_gain", "norm_bias", "residual", "selection", *DIRECTED])
    if changed.get("norm_gain") is not None:
        inputs["norm_gain"] = changed["norm_gain"]
    inputs |= changed
    constants = frozenset(k for k in CONSTANTS if inputs.get(k) is not None)
    with pytest.raises(Exception, match=message):
        Operator("Linear", inputs, constants, **attributes)()


def test_a_weight_that_is_fed_is_refused() -> None:
    inputs = {"x": X, "weight": np.zeros((64, 3), np.float32)}
    with pytest.raises(Exception, match="Linear tested: the weight has to be a constant"):
        Operator("Linear", inputs)


def test_the_rows_behind_no_layer_norm_are_refused() -> None:
    inputs = {"x": X, "weight": np.zeros((64, 3), np.float32)}
    with pytest.raises(Exception, match="normalized has nothing to give without norm_gain"):
        Operator("Linear", inputs, frozenset({"weight"}), outputs=(TensorProto.FLOAT,) * 2)()


def test_kernels_that_are_unknown_are_refused() -> None:
    inputs = {"x": X, "weight": np.zeros((64, 3), np.float32)}
    with pytest.raises(Exception, match=r"GPT2ONNX_KERNELS is mmx, this processor runs .*scalar"):
        Operator("Linear", inputs, frozenset({"weight"}), "mmx")
