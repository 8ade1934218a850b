"""Attention against numpy in double precision, and against itself for the same bits."""

from __future__ import annotations

from typing import Any

import gpt2onnx_kernels
import numpy as np
import pytest
from graphs import Array, Operator
from hypothesis import given, settings
from hypothesis import strategies as st

KERNELS = gpt2onnx_kernels.kernels_here()
STORES = {"float32": 2e-6, "float16": 2e-3, "int8": 0.6}  # how far off a stored number may be


def expected_attention(
    inputs: dict[str, Any], heads: int, scale: float
) -> tuple[Array, Array, Array]:
    """The output, keys and values, of inputs whose keys and values are in double precision."""
    keys, values = inputs["keys"].copy(), inputs["values"].copy()
    tokens, (_, _, _, head_dim) = len(inputs["rows"]), keys.shape
    q, k, v = inputs["qkv"].astype(float).reshape(tokens, 3, heads, head_dim).transpose(1, 0, 2, 3)
    places = list(zip(inputs["rows"], inputs["slots"], strict=True))
    for token, (row, slot) in enumerate(places):
        keys[row, :, slot], values[row, :, slot] = k[token], v[token]
    out = np.empty((tokens, heads, head_dim))
    for token, (row, slot) in enumerate(places):
        seen = np.ones(slot + 1, bool)
        if inputs.get("attention_mask") is not None and inputs["attention_mask"].size:
            for other, (its_row, its_slot) in enumerate(places):
                if its_row == row and its_slot <= slot:
                    seen[its_slot] = inputs["attention_mask"][token, other]
        for head in range(heads):
            scores = keys[row, head, : slot + 1] @ q[token, head] * scale
            scores[~seen] = -np.inf
            weights = np.exp(scores - scores.max())
            out[token, head] = weights @ values[row, head, : slot + 1] / weights.sum()
    out = out.reshape(tokens, -1)
    if inputs.get("value_steps") is not None:
        out *= inputs["value_steps"]
    return out, keys, values


CASES = st.fixed_dictionaries(
    {
        "runs": st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=4),
        "heads": st.integers(1, 4),
        "head_dim": st.one_of(st.sampled_from([8, 16, 64, 80]), st.integers(1, 40)),
        "store": st.sampled_from(sorted(STORES)),
        "scale": st.sampled_from([1.0, 0.25, 0.03]),
        "attention_mask": st.booleans(),
        "steps": st.booleans(),
        "kernels": st.sampled_from(KERNELS),
        "seed": st.integers(0, 2**32 - 1),
    }
)


def made(case: dict[str, Any]) -> dict[str, Any]:
    """A case's inputs: `runs` are each row's past and new tokens; rows are in any order."""
    rng = np.random.default_rng(case["seed"])
    heads, head_dim, dtype = case["heads"], case["head_dim"], np.dtype(case["store"])
    order = rng.permutation(len(case["runs"]) + 1)[: len(case["runs"])]
    rows = np.concatenate([np.full(n, r) for r, (_, n) in zip(order, case["runs"], strict=True)])
    slots = np.concatenate([np.arange(past, past + n) for past, n in case["runs"]])
    shape = (len(case["runs"]) + 1, heads, int(slots.max()) + 1 + int(rng.integers(3)), head_dim)
    spread = 20 if dtype == np.int8 else 1
    qkv = rng.standard_normal((len(rows), 3, heads * head_dim))
    qkv[:, 0] /= spread  # scores stay moderate
    qkv[:, 1:] *= spread
    cache = [np.clip(rng.standard_normal(shape) * spread, -127, 127) for _ in range(2)]
    attention_mask = np.zeros((0, 0), bool)
    if case["attention_mask"]:
        attention_mask = np.tril(rng.random((len(rows), len(rows))) < 0.5)
        np.fill_diagonal(attention_mask, True)
    return {
        "qkv": qkv.reshape(len(rows), -1).astype(np.float32),
        "rows": rows.astype(np.int64),
        "slots": slots.astype(np.int64),
        "keys": np.rint(cache[0]).astype(dtype) if spread > 1 else cache[0].astype(dtype),
        "values": np.rint(cache[1]).astype(dtype) if spread > 1 else cache[1].astype(dtype),
        "attention_mask": attention_mask,
        "value_steps": rng.random(heads * head_dim, np.float32) if case["steps"] else None,
    }


def operator(case: dict[str, Any], inputs: dict[str, Any]) -> Operator:
    names = {"heads": case["heads"], "scale": case["scale"]}
    return Operator("Attention", inputs, kernels=case["kernels"], **names)


def as_stored(inputs: dict[str, Any], heads: int) -> dict[str, Any]:
    """The inputs with new keys and values rounded as the cache rounds them, in double precision."""
    dtype = inputs["keys"].dtype
    qkv = inputs["qkv"].astype(float)
    width = qkv.shape[1] // 3
    new = qkv[:, width:]
    kept = np.clip(np.rint(new), -128, 127) if dtype == np.int8 else new.astype(dtype).astype(float)
    qkv[:, width:] = kept
    cache = {name: inputs[name].astype(float) for name in ("keys", "values")}
    return inputs | cache | {"qkv": qkv}


@settings(max_examples=120, deadline=None)
@given(CASES)
def test_is_what_numpy_says(case: dict[str, Any]) -> None:
    inputs = made(case)
    expected, keys, values = expected_attention(
        as_stored(inputs, case["heads"]), case["heads"], case["scale"]
    )
    found = operator(case, inputs)()
    spread = 1 if case["store"] != "int8" else 30
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * spread)
    np.testing.assert_array_equal(inputs["keys"].astype(float), keys)
    np.testing.assert_array_equal(inputs["values"].astype(float), values)


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_every_processor_has_the_same_bits(case: dict[str, Any]) -> None:
    found = [operator(case | {"kernels": name}, made(case))() for name in KERNELS]
    assert all(each.tobytes() == found[0].tobytes() for each in found)


@pytest.mark.parametrize("store", sorted(STORES))
@pytest.mark.parametrize("head_dim", [64, 20])
def test_chunks_and_steps_have_a_whole_prompts_bits(store: str, head_dim: int) -> None:
    case = {"runs": [(0, 150)], "heads": 3, "head_dim": head_dim, "store": store, "scale": 0.1}
    case |= {"attention_mask": False, "steps": False, "kernels": "", "seed": 2}
    whole = made(case)
    run = operator(case, whole)
    expected = run()
    for size in (1, 7, 33, 100):
        parts = made(case)
        found = [
            run(**{**parts, **{k: parts[k][i : i + size] for k in ("qkv", "rows", "slots")}})
            for i in range(0, 150, size)
        ]
        assert np.concatenate(found).tobytes() == expected.tobytes(), size
        assert parts["keys"].tobytes() == whole["keys"].tobytes()


def test_rows_that_share_a_run_do_not_meet() -> None:
    case = {"runs": [(5, 9), (40, 1), (0, 35), (17, 3)], "heads": 2, "head_dim": 24}
    case |= {
        "store": "float32",
        "scale": 0.2,
        "attention_mask": False,
        "steps": False,
        "kernels": "",
        "seed": 3,
    }
    together = made(case)
    run = operator(case, together)
    expected, alone = run(), made(case)
    for row in np.unique(alone["rows"]):
        mine = alone["rows"] == row
        found = run(**{**alone, **{k: alone[k][mine] for k in ("qkv", "rows", "slots")}})
        assert found.tobytes() == expected[mine].tobytes()
    assert alone["values"].tobytes() == together["values"].tobytes()


def test_no_tokens_change_nothing() -> None:
    case = {"runs": [(0, 3)], "heads": 2, "head_dim": 8, "store": "float32", "scale": 1.0}
    case |= {"attention_mask": False, "steps": False, "kernels": "", "seed": 4}
    inputs = made(case)
    nothing = {k: inputs[k][:0] for k in ("qkv", "rows", "slots")}
    assert operator(case, inputs)(**nothing).shape == (0, 16)


CASE: dict[str, Any] = {"runs": [(0, 2), (3, 2)], "heads": 2, "head_dim": 8, "store": "float32"}
CASE |= {"scale": 1.0, "attention_mask": False, "steps": False, "kernels": "", "seed": 5}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"qkv": np.zeros((4, 47), np.float32)},
            r"qkv has the shape \[4, 47\], expected \[tokens, 48",
        ),
        ({"rows": np.zeros(3, np.int64)}, r"rows and slots have the shapes \[3\] and \[4\]"),
        ({"rows": np.array([0, 0, 9, 9])}, "row 9 and slot 3"),
        ({"rows": np.array([-1, -1, 1, 1])}, "row -1 and slot 0"),
        ({"slots": np.array([0, 1, 3, 2**40])}, f"slot {2**40}"),
        ({"slots": np.array([0, 0, 3, 4])}, "slots of a row have to ascend"),
        ({"slots": np.array([0, -1, 3, 4])}, "slot -1"),
        ({"rows": np.array([0, 1, 0, 1])}, "have to stand together"),
        ({"keys": np.zeros((3, 2, 5, 8), np.float16)}, "of one type"),
        ({"keys": np.zeros((3, 2, 4, 8), np.float32)}, "keys and values have the shapes"),
        ({"keys": np.zeros((3, 1, 5, 8), np.float32)}, "keys and values have the shapes"),
        ({"attention_mask": np.zeros((4, 3), bool)}, r"attention_mask has the shape \[4, 3\]"),
        ({"value_steps": np.zeros(3, np.float32)}, r"value_steps has the shape \[3\]"),
    ],
)
def test_what_does_not_fit_is_told(changed: dict[str, Any], message: str) -> None:
    inputs = made(CASE)
    for name in ("keys", "values"):
        inputs[name] = np.zeros((3, 2, 5, 8), np.float32)
    with pytest.raises(Exception, match=message):
        operator(CASE, inputs | changed)()


def test_attributes_are_checked() -> None:
    with pytest.raises(Exception, match="heads is 0"):
        operator(CASE | {"heads": 0}, made(CASE))
