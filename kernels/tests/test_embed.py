"""Embed against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import Operator
from test_linear import rounded_weight

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((50, 40), dtype=np.float32)
PLACES = RNG.standard_normal((9, 40), dtype=np.float32)
LEVELS, SCALES, MEANS = rounded_weight(TABLE, 8, 32)
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
    ],
)
def test_what_does_not_fit_is_told(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        embed(TABLE, None, **changed)


def test_blocks_without_scales_are_refused() -> None:
    with pytest.raises(Exception, match="with scales"):
        embed(LEVELS, None)
