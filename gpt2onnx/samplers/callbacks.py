"""Calls a user's own function, such as stop_fn. No other place does.

It is told a sequence's tokens, and can't change them. Knows nothing of what the answer means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gpt2onnx.samplers.candidates import IntArray

Answer = TypeVar("Answer")


def ask(
    function: Callable[[int, IntArray], Answer], sequence_index: int, history: IntArray
) -> Answer:
    """What the function says of a sequence's tokens [n], which it may read and keep."""
    view = history.view()
    view.flags.writeable = False
    return function(sequence_index, view)
