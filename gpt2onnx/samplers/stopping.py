"""stop_fn: a caller's own function that ends a sequence after any token.

It is asked as prefix_allowed_tokens_fn is, of one sequence at a time; transformers'
stopping_criteria, which are told a whole batch and its scores, have another name for that reason.
Knows nothing of text, nor of why else a sequence ends.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpt2onnx.errors import Given, ParameterError, shown
from gpt2onnx.samplers.callbacks import ask
from gpt2onnx.samplers.candidates import IntArray

StopFn = Callable[[int, IntArray], bool]


def is_stopped(history: IntArray, *, stop_fn: StopFn, sequence_index: int) -> bool:  # [n]
    """Whether `stop_fn(sequence_index, history)` ends the sequence; its newest token stays.

    Raises ParameterError for an answer that isn't True or False.
    """
    answer = ask(stop_fn, sequence_index, history)
    if not isinstance(answer, bool | np.bool_):
        raise ParameterError(
            Given("stop_fn"),
            f" returned {shown(answer)} for sequence {sequence_index}: expected True to end it "
            "there, or False",
        )
    return bool(answer)
