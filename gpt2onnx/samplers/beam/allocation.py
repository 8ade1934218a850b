"""Picks a beam's continuations while forced phrases are unfinished.

The likeliest ones alone would hardly ever contain them. Dynamic beam allocation, Post & Vilar,
1804.06609: tokens of the phrases are candidates, too, and each stage of progress has its share of
the beam. Knows nothing of how a hypothesis ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gpt2onnx.samplers.beam.forced_words import Phrases, Progress
from gpt2onnx.samplers.candidates import FloatArray
from gpt2onnx.samplers.selection import largest


def allocate(
    scores: FloatArray, progress: Sequence[Progress], phrases: Phrases, count: int, left: int
) -> list[int]:  # [running, vocab], [running] -> [n]
    """Continuations of the running hypotheses, as flat indices, in the order to follow them.

    They are the `count` best of all, the best of each hypothesis, and all that bring a phrase
    further; but none after which the phrases couldn't be completed with the `left` tokens to come.
    """
    needed = {
        flat: phrases.needed(phrases.advance(progress[flat // scores.shape[1]], token))
        for flat in _candidates(scores, progress, phrases, count)
        for token in [flat % scores.shape[1]]
    }
    possible = [flat for flat in needed if needed[flat] <= left and scores.flat[flat] > -np.inf]
    best_first = sorted(possible, key=lambda flat: -scores.flat[flat])
    return [best_first[place] for place in by_rounds([needed[flat] for flat in best_first])]


def by_rounds(needed: Sequence[int]) -> list[int]:  # [n] -> [n]
    """An order of hypotheses, which stand best first, that gives each stage of progress its share.

    The best of every stage comes first, then the second best of each, and so on; within a round
    those that need fewer tokens. What a stage leaves free thus goes to the others. transformers
    deals in such rounds as well.
    """
    places: Counter[int] = Counter()
    rounds = []
    for stage in needed:
        rounds.append((places[stage], stage))
        places[stage] += 1
    return sorted(range(len(rounds)), key=rounds.__getitem__)


def _candidates(
    scores: FloatArray, progress: Sequence[Progress], phrases: Phrases, count: int
) -> set[int]:
    vocab = scores.shape[1]
    starts = range(0, scores.size, vocab)
    return {
        *largest(scores.ravel(), count).tolist(),
        *(start + int(best) for start, best in zip(starts, scores.argmax(axis=1), strict=True)),
        *(
            start + token
            for start, each in zip(starts, progress, strict=True)
            for token in phrases.next_tokens(each)
        ),
    }
