"""Where two greedy texts first differ, and whether that is a near-tie."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
import tokenizers

from gpt2onnx.compare.record.answers import Parting, Same
from gpt2onnx.runtime.decoder.protocol import Ids, Logits

# A near-tie: the reference gives the other token at least half of its own token's probability.
# Being of its logits alone, it can't be had by answering wrongly.
NEAR_TIE = log(2)
BEFORE, AFTER = 12, 12  # tokens that are shown


def same_but_for_a_near_tie(
    expected: Sequence[int], written: Sequence[int], logits: Logits | None
) -> bool:
    """Whether two texts of as many tokens are one, up to where `expected` could be another as well.

    `logits` are those that expected tokens are of, [count, vocab]; without them nothing else is.
    """
    at = next((at for at, each in enumerate(expected) if each != written[at]), None)
    if at is None:
        return True
    return logits is not None and _margin(logits[at], expected[at], written[at]) <= NEAR_TIE


def compared(
    tokenizer: tokenizers.Tokenizer, logits: Logits, text: Ids, written: Ids, prompt: int
) -> Same | Parting:
    """Compare what a candidate wrote, [count], with the reference's.

    `text` is [prompt + count] tokens, the reference's own behind the prompt, `logits` its logits
    [prompt + count, vocab] after each of them.
    """
    expected = text[prompt:]
    different = np.flatnonzero(expected != written)
    if not different.size:
        return Same()
    at = int(different[0])
    margin = _margin(logits[prompt + at - 1], int(expected[at]), int(written[at]))
    shown = slice(at, at + AFTER)
    return Parting(
        parts_at=at,
        before=tokenizer.decode(text[max(0, prompt + at - BEFORE) : prompt + at].tolist()),
        reference=tokenizer.decode(expected[shown].tolist()),
        candidate=tokenizer.decode(written[shown].tolist()),
        margin=margin,
        near_tie=margin <= NEAR_TIE,
    )


def _margin(logits: Logits, own: int, other: int) -> float:
    """By how much logits [vocab] prefer their own token."""
    return float(logits[own] - logits[other])
