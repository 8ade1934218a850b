"""Sizes of memory and of files as people write them: 500M, 4G."""

from __future__ import annotations

import re

from gpt2onnx.errors import Given, ParameterError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
LARGEST = 10**18  # more than any machine has, and nothing that int64 couldn't hold


def parse_size(value: object, named: str | Given) -> int:
    """Bytes: a whole number, or text, in which K, M, G or T may stand behind it.

    Raises ParameterError, which names the value as `named` does.
    """
    if isinstance(value, str):
        found = re.fullmatch(r"([0-9]{1,18}) ?([KMGT]?)B?", value.strip().upper())
        size = int(found[1]) * UNITS[found[2]] if found else -1
    else:
        size = value if type(value) is int else -1
    if not 0 <= size <= LARGEST:
        raise ParameterError(named, ": expected a size such as 500M or 4G; 0 turns it off")
    return size
