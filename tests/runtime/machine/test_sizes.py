"""Sizes as people write them."""

from __future__ import annotations

import pytest

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.runtime.machine.sizes import parse_size


@pytest.mark.parametrize(
    ("value", "expected"),
    [("512M", 512 * 10**6), ("2G", 2 * 10**9), (" 3 kb", 3000), ("0", 0), (0, 0), (4096, 4096)],
)
def test_a_size(value: object, expected: int) -> None:
    assert parse_size(value, "size") == expected


@pytest.mark.parametrize(
    "value", ["", "M", "1.5G", "-1", "10X", "²", -1, 1.5, True, None, b"1M", 10**19, "999999999T"]
)
def test_a_size_that_is_none(value: object) -> None:
    with pytest.raises(ParameterError, match=r"prefix_cache=.*: expected a size such as 500M"):
        parse_size(value, Given("prefix_cache", value))
