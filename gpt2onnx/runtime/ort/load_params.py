"""Checks of `load`'s parameters, before anything is opened or exported.

Knows names and values; what this machine's ONNX Runtime makes of them, `session` knows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from gpt2onnx.flags import flag, refusal

# A thread has a stack and a place at every barrier: more than these only wait for each other.
MOST_THREADS = max(256, 4 * (os.cpu_count() or 1))
# What ONNX Runtime takes as the text of a provider's option.
_TEXTS = (str, int, float, np.integer, np.floating)


def check_load(
    provider: object, provider_options: object, threads: object, startup_cache: object = True
) -> None:
    """Raises ParameterError for what can't be one of them."""
    if not isinstance(provider, str):
        raise refusal("provider", provider, "a name, such as 'auto', 'cpu' or 'cuda'")
    if provider_options is not None:
        _check_options(provider_options)
    if threads is not None:
        _check_threads(threads)
    flag("startup_cache", startup_cache)


def _check_threads(threads: object) -> None:
    expected = f"an integer from 1 to {MOST_THREADS}; this machine has {os.cpu_count()} processors"
    if not isinstance(threads, int | np.integer) or isinstance(threads, bool):
        raise refusal("threads", threads, expected)
    if not 1 <= threads <= MOST_THREADS:
        raise refusal("threads", threads, expected)


def _check_options(options: object) -> None:
    """Names and values become C's strings."""
    expected = "names with texts or numbers, such as {'device_id': 0}"
    if not isinstance(options, Mapping):
        raise refusal("provider_options", options, expected)
    for name, value in options.items():
        if not isinstance(name, str) or not isinstance(value, _TEXTS):
            raise refusal("provider_options", options, expected)
        if not all(_fits_c(text) for text in (name, value)):
            raise refusal("provider_options", options, expected)


def _fits_c(value: object) -> bool:
    """Whether this is a text without NUL and halves of surrogate pairs, or a number of digits."""
    try:
        return b"\0" not in str(value).encode()
    except ValueError:  # an integer of thousands of digits, or what no UTF-8 is of
        return False
