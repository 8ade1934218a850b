"""Forced phrases (`force_words_ids`), and matching progress.

A constraint is one phrase, or several of which one will do: transformers' PhrasalConstraint and
DisjunctiveConstraint. It is met where the new tokens contain the phrase; phrases may overlap.
Knows tokens; knows nothing of scores or of how tokens are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import permutations

Phrase = tuple[int, ...]
# Of each constraint: how many tokens of each of its phrases stand at the text's end; () once met.
Progress = tuple[tuple[int, ...], ...]


class Phrases:
    """The constraints of one call; `start` is the progress of a text without a token."""

    def __init__(self, constraints: Sequence[Sequence[Phrase]]) -> None:
        self._constraints = constraints
        self.start: Progress = tuple((0,) * len(phrases) for phrases in constraints)
        pairs = permutations(constraints, 2)
        self._overlap = any(_overlap(a, b) for one, other in pairs for a in one for b in other)
        self._fewest: dict[Progress, int] = {}

    def advance(self, progress: Progress, token: int) -> Progress:
        """The progress after one token more."""
        return tuple(
            _advance(phrases, matched, token)
            for phrases, matched in zip(self._constraints, progress, strict=True)
        )

    def next_tokens(self, progress: Progress) -> set[int]:
        """The tokens that bring one of the phrases still to come further."""
        return {
            phrase[done]
            for phrases, matched in self._unmet(progress)
            for phrase, done in zip(phrases, matched, strict=True)
        }

    def needed(self, progress: Progress) -> int:
        """The fewest tokens that meet all constraints; 0 where they are met."""
        return self._shortest(progress) if self._overlap else self._one_by_one(progress)

    def _one_by_one(self, progress: Progress) -> int:
        """Each phrase from its beginning, but for the one that saves the most of those begun."""
        total = saved = 0
        for phrases, matched in self._unmet(progress):
            shortest = min(map(len, phrases))
            total += shortest
            saved = max(saved, shortest - min(_rests(phrases, matched)))
        return total - saved

    def _shortest(self, progress: Progress) -> int:
        """One phrase is completed first: try each, and count what is needed from there on."""
        if progress not in self._fewest:
            self._fewest[progress] = min(
                (
                    len(phrase) - done + self._shortest(self._after(progress, phrase[done:]))
                    for phrases, matched in self._unmet(progress)
                    for phrase, done in zip(phrases, matched, strict=True)
                ),
                default=0,
            )
        return self._fewest[progress]

    def _after(self, progress: Progress, tokens: Phrase) -> Progress:
        for token in tokens:
            progress = self.advance(progress, token)
        return progress

    def _unmet(self, progress: Progress) -> Iterator[tuple[Sequence[Phrase], tuple[int, ...]]]:
        pairs = zip(self._constraints, progress, strict=True)
        return ((phrases, matched) for phrases, matched in pairs if matched)


def _advance(phrases: Sequence[Phrase], matched: tuple[int, ...], token: int) -> tuple[int, ...]:
    if not matched:
        return ()
    pairs = zip(phrases, matched, strict=True)
    longer = tuple(_longest_match(phrase, done, token) for phrase, done in pairs)
    return longer if min(_rests(phrases, longer)) else ()


@lru_cache(maxsize=4096)
def _longest_match(phrase: Phrase, done: int, token: int) -> int:
    """How much of a phrase stands at the end, once `token` follows its first `done` tokens."""
    end = (*phrase[:done], token)
    return next(n for n in range(len(end), -1, -1) if end[len(end) - n :] == phrase[:n])


def _rests(phrases: Sequence[Phrase], matched: Sequence[int]) -> list[int]:
    return [len(phrase) - done for phrase, done in zip(phrases, matched, strict=True)]


def _overlap(a: Phrase, b: Phrase) -> bool:
    """Whether the end of `a` is a beginning of `b`, or `a` lies within `b`."""
    inside = any(b[start : start + len(a)] == a for start in range(len(b) - len(a) + 1))
    return inside or any(a[-n:] == b[:n] for n in range(1, min(len(a), len(b)) + 1))
