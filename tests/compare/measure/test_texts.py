from __future__ import annotations

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx.compare.measure.texts import compared
from gpt2onnx.compare.record.answers import Parting, Same

PROMPT = 2
TEXT = np.array([97, 98, 99, 100, 101])
# After each token of TEXT, the reference's own next token is far ahead of all others.
LOGITS = np.zeros((5, 257), np.float32)
LOGITS[np.arange(4), TEXT[1:]] = 9.0


def test_equal_texts_do_not_part(model: gpt2onnx.Model) -> None:
    assert compared(model.tokenizer, LOGITS, TEXT, TEXT[PROMPT:], PROMPT) == Same()


@pytest.mark.parametrize(("margin", "near"), [(0.0, True), (0.69, True), (0.7, False), (9, False)])
def test_where_and_whether_it_was_a_near_tie(
    model: gpt2onnx.Model, margin: float, near: bool
) -> None:
    logits = LOGITS.copy()
    logits[2, 120] = 9.0 - margin  # what comes after the first new token
    found = compared(model.tokenizer, logits, TEXT, np.array([99, 120, 121]), PROMPT)
    assert isinstance(found, Parting)
    assert found.parts_at == 1
    assert found.margin == pytest.approx(margin, abs=1e-6)
    assert found.near_tie is near
    shown = [found.before, found.reference, found.candidate]
    assert shown == [model.tokenizer.decode(ids) for ids in ([97, 98, 99], [100, 101], [120, 121])]
