"""A row's logits don't depend on what shares its batch: the bundled model, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx import Model, demo
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.protocol import Ids, Logits

PRECISIONS = ["fp32", "int8", "int8-dynamic"]
BATCHES = [1, 2, 3, 8, 32]
STEPS = 6
PROMPT = "def read(file):\n    with open(file) as lines:\n        return [line for line in"

in_each_precision = pytest.mark.parametrize("precision", PRECISIONS)
at_each_batch = pytest.mark.parametrize("batch", BATCHES)


@pytest.fixture(scope="module")
def opened() -> Callable[[str], Model]:
    # Two threads: products are split between them, which must not change a row.
    return cache(lambda precision: gpt2onnx.load(demo.exported(precision=precision), threads=2))


def logits_of(model: Model, texts: list[Ids]) -> Logits:
    """What each of some texts [n + STEPS] gives in one batch: [texts, 1 + STEPS, vocab]."""
    decoder = model.decoder
    rows = [decoder.new_row() for _ in texts]
    found = [
        [reads.prefill(decoder, row, text[:-STEPS]) for row, text in zip(rows, texts, strict=True)]
    ]
    for step in range(STEPS):
        newest = np.array([text[len(text) - STEPS + step] for text in texts])
        found.append(list(reads.step(decoder, rows, newest)))
    for row in rows:
        decoder.free(row)
    return np.array(found).swapaxes(0, 1)


@in_each_precision
@at_each_batch
def test_every_row_is_what_it_is_alone(
    opened: Callable[[str], Model], precision: str, batch: int
) -> None:
    model, random = opened(precision), np.random.default_rng(batch)
    texts = [
        random.integers(0, model.decoder.vocab_size, length + STEPS)
        for length in random.integers(1, 150, batch)
    ]
    together = logits_of(model, texts)
    for row, text in enumerate(texts):
        np.testing.assert_array_equal(together[row], logits_of(model, [text])[0])


@in_each_precision
@at_each_batch
def test_a_text_beside_others(opened: Callable[[str], Model], precision: str, batch: int) -> None:
    """What a user sees: the same tokens and log-probabilities, whatever else is asked for."""
    model = opened(precision)
    others = [f"class Other{number}:" + "\n    pass" * number for number in range(batch - 1)]
    options = {"max_new_tokens": 8, "eos_token_id": []}
    alone = model.generate(PROMPT, **options)
    beside = model.generate([*others, PROMPT], **options)[-1]
    assert (beside.token_ids, beside.logprobs) == (alone.token_ids, alone.logprobs)
