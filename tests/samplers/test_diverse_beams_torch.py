"""Groups against transformers' own scorer and diversity processor, in the loop that they were for.

transformers 4.57 has both classes still; the loop around them went to a repository of its hub.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers.generation import beam_search, logits_process

from tests.fake_decoder import Rule, by_history
from tests.samplers.searching import scores, search, written

VOCAB, PAD = 40, 0
settings_of_a_call = st.fixed_dictionaries(
    {
        "num_beam_groups": st.integers(2, 3),
        "diversity_penalty": st.sampled_from([0.2, 1.0, 3.0]),
        "length_penalty": st.sampled_from([-0.5, 0.0, 1.0, 2.0]),
        "early_stopping": st.sampled_from([True, False, "never"]),
        "repetition_penalty": st.sampled_from([1.0, 1.3]),
        "max_new_tokens": st.integers(1, 10),
    }
)


@pytest.fixture(autouse=True)
def _no_notes_on_deprecation() -> Any:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), settings_of_a_call)
def test_groups(seed: int, size: int, call: dict[str, Any]) -> None:
    compare(by_history(VOCAB, seed), call, call["num_beam_groups"] * size, [])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), settings_of_a_call)
def test_groups_with_end_tokens(seed: int, size: int, call: dict[str, Any]) -> None:
    """A full group ends; when else it would, `_beam_search`, which is newer, decides otherwise."""
    eos = [7, 11, 12, 13]
    call |= {"max_new_tokens": 30, "early_stopping": True}
    compare(without_pad(seed), call, call["num_beam_groups"] * size, eos)


def without_pad(seed: int) -> Rule:
    """A group that is done goes on with padding, which counts against that token in later groups.

    Here a group that is done takes no tokens any more; so let no group want this one.
    """
    rule = by_history(VOCAB, seed)
    return lambda tokens: np.where(np.arange(VOCAB) == PAD, np.float32(-100), rule(tokens))


def compare(rule: Rule, call: dict[str, Any], beams: int, eos: Sequence[int]) -> None:
    prompt = [1, 2, 3]
    ours = search(
        rule, prompt, num_beams=beams, num_return_sequences=beams, eos_token_id=eos, **call
    )
    if eos:
        assume(all(each.ending == "eos" for each in ours.best()))
    texts, theirs = reference(rule, prompt, beams=beams, eos=eos, **call)
    assert scores(ours) == pytest.approx(theirs, abs=1e-4)
    for mine, text in zip(written(ours), texts, strict=True):
        end = [eos[0]] if eos else mine[-1:]  # it writes the first end token for any of them
        assert [*mine[:-1], *end] == text[: len(mine)]


def reference(
    rule: Rule,
    prompt: Sequence[int],
    *,
    beams: int,
    eos: Sequence[int],
    num_beam_groups: int,
    diversity_penalty: float,
    length_penalty: float,
    early_stopping: bool | str,
    repetition_penalty: float,
    max_new_tokens: int,
) -> tuple[list[list[int]], list[float]]:
    size, limit = beams // num_beam_groups, len(prompt) + max_new_tokens
    ends = torch.tensor(eos) if eos else None
    scorer = beam_search.BeamSearchScorer(
        *(1, beams, torch.device("cpu"), length_penalty, early_stopping, beams, num_beam_groups),
        max_length=limit,
    )
    diversity = logits_process.HammingDiversityLogitsProcessor(
        diversity_penalty, beams, num_beam_groups
    )
    repetition = logits_process.RepetitionPenaltyLogitsProcessor(repetition_penalty)
    ids = torch.tensor([list(prompt)] * beams)
    totals = torch.full((beams,), -1e9)
    totals[::size] = 0
    while ids.shape[1] < limit and not scorer.is_done:
        logits = torch.from_numpy(np.stack([rule(tuple(row.tolist())) for row in ids]))
        newest = torch.zeros(beams, dtype=torch.long)
        for group in range(num_beam_groups):
            own = slice(group * size, (group + 1) * size)
            logprobs = diversity(ids[own], torch.log_softmax(logits[own], -1), newest, group)
            sums = (repetition(ids[own], logprobs) + totals[own, None]).view(1, -1)
            best, index = torch.topk(sums, max(2, 1 + len(eos)) * size)
            step = scorer.process(
                *(ids[own], best, index % VOCAB, index // VOCAB, PAD, ends),
                group_index=group,
                decoder_prompt_len=len(prompt),
            )
            totals[own], newest[own] = step["next_beam_scores"], step["next_beam_tokens"]
            ids[own] = ids[own][step["next_beam_indices"]]
        ids = torch.cat([ids, newest[:, None]], dim=1)
    final = scorer.finalize(
        *(ids, totals, None, None, limit, PAD, ends), decoder_prompt_len=len(prompt)
    )
    texts = [row[len(prompt) :].tolist() for row in final["sequences"]]
    return texts, final["sequence_scores"].tolist()
