"""A caller's function reads a text's tokens, and can't write to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers.callbacks import ask
from gpt2onnx.samplers.penalties import prefix_allowed_tokens
from gpt2onnx.samplers.stopping import is_stopped
from tests.raising import raises


def write(sequence: int, history: Any) -> bool:
    history[0] = 7
    return True


def test_the_answer_is_the_functions_own() -> None:
    history = np.array([3, 4])
    assert ask(lambda sequence, tokens: (sequence, tokens.tolist()), 5, history) == (5, [3, 4])


def test_nothing_can_be_written_to() -> None:
    history, logits = np.array([3, 4]), np.zeros(9, np.float32)
    with pytest.raises(ValueError, match="read-only"):
        is_stopped(history, stop_fn=write, sequence_index=0)
    with pytest.raises(ValueError, match="read-only"):
        prefix_allowed_tokens(history, logits, allowed_fn=write, sequence_index=0)  # type: ignore[arg-type]
    assert history.tolist() == [3, 4]
    history[0] = 5  # its owner's still
    assert history.tolist() == [5, 4]


def test_lists_of_several_lengths_are_no_tokens() -> None:
    with raises(ParameterError, named=("prefix_allowed_tokens_fn",)):
        prefix_allowed_tokens(
            np.array([1]),
            np.zeros(9, np.float32),
            allowed_fn=lambda sequence, history: [[1], [2, 3]],  # type: ignore[list-item]
            sequence_index=0,
        )
