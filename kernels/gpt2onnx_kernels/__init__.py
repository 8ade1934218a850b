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
from threading import Lock, Thread

__all__ = [
    "DOMAIN",
    "KERNELS_VARIABLE",
    "OPSET",
    "distance",
    "kernels_here",
    "library",
    "operations",
]

__version__ = "0.1.0"

DOMAIN, OPSET = "gpt2onnx", 7  # of the operators
# Names the kernels to take in place of the best ones, as a test does.
KERNELS_VARIABLE = "GPT2ONNX_KERNELS"
# In place of the one beside this module, as a debug build's.
LIBRARY_VARIABLE = "GPT2ONNX_KERNELS_LIBRARY"
_TAKING_TURNS = Lock()


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


def distance(rounds: int = 2000) -> float:
    """Seconds until one of this process's first two processors sees what the other one wrote.

    Some 25 ns where they share a cache, and over 100 where they don't: then what one thread
    computed is slow to read for the other. Virtual processors are moved now and then, and what the
    same work takes changes with it.

    Raises FileNotFoundError and OSError as `kernels_here` does; ValueError where the process may
    run on one processor only.
    """
    pair = sorted(os.sched_getaffinity(0))[:2]
    if len(pair) < 2:
        raise ValueError(f"expected two processors, this process may run on {pair[0]} alone")
    take_turns = ctypes.CDLL(str(library())).gpt2onnx_take_turns
    take_turns.argtypes, take_turns.restype = (ctypes.c_int, ctypes.c_int64), None
    taken = 0.0

    def side(number: int) -> None:
        nonlocal taken
        os.sched_setaffinity(0, {pair[number]})  # this thread's
        take_turns(number, rounds)  # until both are there
        started = time.perf_counter()
        take_turns(number, rounds)
        if number == 0:
            taken = time.perf_counter() - started

    with _TAKING_TURNS:
        threads = [Thread(target=side, args=(number,)) for number in (0, 1)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    return taken / (2 * rounds)
