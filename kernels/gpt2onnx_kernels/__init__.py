"""Where the library of ONNX Runtime operators is, and what this processor gets of it.

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(gpt2onnx_kernels.library()))

Imports nothing but Python's own.
"""

from __future__ import annotations

import ctypes
import os
import time
from functools import cache
from pathlib import Path

__all__ = ["DOMAIN", "KERNELS_VARIABLE", "OPSET", "kernels_here", "library", "operations"]

__version__ = "0.1.0"

DOMAIN, OPSET = "gpt2onnx", 7  # of the operators
# Names the kernels to take in place of the best ones, as a test does.
KERNELS_VARIABLE = "GPT2ONNX_KERNELS"
# In place of the one beside this module, as a debug build's.
LIBRARY_VARIABLE = "GPT2ONNX_KERNELS_LIBRARY"


def library() -> Path:
    """The shared library. Raises FileNotFoundError where it wasn't built."""
    named = os.environ.get(LIBRARY_VARIABLE)
    path = Path(named) if named else Path(__file__).parent / "libgpt2onnx_kernels.so"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the library of operators isn't there; install it again")
    return path


@cache
def kernels_here() -> tuple[str, ...]:
    """The kernels that this processor runs, the best first: "avx512-vnni", ..., "scalar".

    Raises FileNotFoundError, or OSError where the library is another system's.
    """
    names = ctypes.CDLL(str(library())).gpt2onnx_kernels_here
    names.restype = ctypes.c_char_p
    return tuple(names().decode().split())


def operations(*, rounded: bool, seconds: float = 0.05) -> float:
    """Operations a second that one thread of this processor can do at most: the products' ceiling.

    Multiplications and additions of the kernels' own instructions, on numbers in the first cache:
    of rounded weights and activations, or of floats. The thread's own time counts, so that others
    on the machine don't. Measured for some `seconds`.

    Raises FileNotFoundError and OSError as `kernels_here` does; ValueError where GPT2ONNX_KERNELS
    names no kernels that run here.
    """
    multiply = ctypes.CDLL(str(library())).gpt2onnx_multiply
    multiply.argtypes, multiply.restype = (ctypes.c_int, ctypes.c_int64), ctypes.c_int64
    rounds, taken, best = 1000, 0.0, 0.0
    while taken < seconds:
        started = time.thread_time()
        products = multiply(rounded, rounds)
        if products < 0:
            named = os.environ.get(KERNELS_VARIABLE)
            raise ValueError(f"{KERNELS_VARIABLE} is {named!r}: expected one of {kernels_here()}")
        spent = time.thread_time() - started
        taken += spent
        if spent < seconds / 10:
            rounds *= 2
        else:
            best = max(best, 2 * products / spent)
    return best
