"""Where two greedy texts first differ, and whether that is a near-tie."""

from __future__ import annotations

from math import log

import numpy as np
import tokenizers

from gpt2onnx.compare.record.answers import Parting, Same
from gpt2onnx.runtime.decoder.protocol import Ids, Logits

# A near-tie: the reference gives the other token at least half of its own token's probability.
# Being of its logits alone, it can't be had by answering wrongly.
NEAR_TIE = log(2)
BEFORE, AFTER = 12, 12  # tokens that are shown


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
    ours, theirs = int(expected[at]), int(written[at])
    after = logits[prompt + at - 1]
    margin = float(after[ours] - after[theirs])
    shown = slice(at, at + AFTER)
    return Parting(
        parts_at=at,
        before=tokenizer.decode(text[max(0, prompt + at - BEFORE) : prompt + at].tolist()),
        reference=tokenizer.decode(expected[shown].tolist()),
        candidate=tokenizer.decode(written[shown].tolist()),
        margin=margin,
        near_tie=margin <= NEAR_TIE,
    )
