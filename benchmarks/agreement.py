"""How far an engine says what the reference says: tokens in a row, top tokens, logits.

Random weights make for flat logits, whose two largest lie close together: one flip ends a greedy
run's equality, and what follows it says nothing. So greedy tokens are counted up to the first
difference, and beside them stands the top token's agreement on given tokens, one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

Steps = Sequence[Sequence[int]]


def equal_tokens(reference: Sequence[int], tokens: Sequence[int]) -> int:
    """Tokens up to the first one that differs."""
    pairs = zip(reference, tokens, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def equal_share(reference: Steps, steps: Steps) -> float:
    """`equal_tokens` of each row as a share of its length, meaned over rows; both [steps][rows]."""
    rows = list(zip(zip(*reference, strict=True), zip(*steps, strict=True), strict=True))
    return sum(equal_tokens(*row) / len(row[0]) for row in rows) / len(rows)


def top1(reference: Steps, steps: Steps) -> float:
    """The share of equal tokens; both [steps][rows]."""
    pairs = [
        pair for each in zip(reference, steps, strict=True) for pair in zip(*each, strict=True)
    ]
    return sum(a == b for a, b in pairs) / len(pairs)


def agree(reference: Steps, steps: Steps, forced: bool) -> dict[str, float | bool]:
    """How far two runs agree: of an engine that was given the reference's tokens, the top tokens.

    One that went on from its own can only be compared up to the first difference: `at_least`.
    """
    share = top1(reference, steps) if forced else equal_share(reference, steps)
    return {"top1": share, "at_least": not forced}
