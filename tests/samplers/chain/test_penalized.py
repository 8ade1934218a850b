"""A chain of penalties gives what its steps give one after another, and says where to look."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from gpt2onnx.samplers import GenerationParams, compose_penalties, penalty_steps

VOCAB = 12
PARAMETERS = {
    "repetition_penalty": 1.5,
    "frequency_penalty": 0.7,
    "presence_penalty": 0.5,
    "dry_multiplier": 0.8,
    "no_repeat_ngram_size": 2,
    "suppress_tokens": [1, 7],
    "logit_bias": {9: 3.0},
    "bad_words_ids": [[3], [2, 4]],
}
LOGITS = np.linspace(-3, 3, VOCAB, dtype=np.float32)


@given(
    names=st.sets(st.sampled_from(sorted(PARAMETERS))),
    history=st.lists(st.integers(0, VOCAB - 1), min_size=2, max_size=12),
    dense=st.none() | st.integers(0, 8),
    changes=st.booleans(),
)
def test_a_chain_is_its_steps_in_turn(
    names: set[str], history: list[int], dense: int | None, changes: bool
) -> None:
    params = GenerationParams(
        dry_sequence_breakers=[5] if "dry_multiplier" in names else None,
        **{name: PARAMETERS[name] for name in names},
    )
    ids, steps = np.array(history), list(penalty_steps(params, 1, 0))
    halves = LOGITS / 2
    halves.setflags(write=False)
    if dense is not None:  # a row that isn't the chain's to write to
        steps.insert(dense, lambda history, logits: halves if changes else logits)
    row = LOGITS
    for step in steps:
        row = step(ids, row)
    logits = LOGITS.copy()
    logits.setflags(write=False)
    found = compose_penalties(steps).on(ids, logits)
    np.testing.assert_array_equal(found.logits, row)
    moved = set(np.flatnonzero(row != LOGITS).tolist())
    assert (found.touched is None) == (dense is not None and changes)
    if found.touched is not None:
        assert moved <= {token for ids in found.touched for token in ids.tolist()}
    assert (found.logits is logits) == (found.touched == [])
