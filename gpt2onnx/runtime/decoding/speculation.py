"""Speculative decoding: a drafter guesses several tokens, one run of the model judges them all.

Leviathan et al., 2211.17192; Chen et al., 2302.01318. Each round the model reads a sequence's
newest token with the drafted ones behind it, which gives its logits after each of them. Token by
token the sequence's own sampler then chooses from the model's logits, with the sequence's own
random numbers. Drafted tokens are kept as long as they are what was chosen; the first other one
takes the draft's place, and where all are kept the last logits give one more. So whatever is
guessed, each token is drawn from the model's own distribution, and it is the very token that the
same seed draws without a draft: a draft changes when tokens come, never which.

The papers accept a drafted x, of probability q(x) to the drafter, with probability
min(1, p(x) / q(x)), and draw from what p has beyond q otherwise. Where a guess is fixed before
chance comes in (a greedy draft, a lookup), q is one at x, and both rules keep it with probability
p(x). Of drafts that are drawn, the papers' rule keeps sum(min(p, q)), the most that any can, but
a sequence then depends on its drafter. Here drafter and model draw with the same random number,
which keeps less, since one token's other probability moves all that stand behind it (the bundled
pair, temperature 1, top_k 50: 20 % against 45 %), for a text that the seed alone decides.

All that holds for equal logits. Attention rounds a lone token otherwise than several (about 1e-5 in
fp32), and INT8 can make more of it: a near tie may then fall differently than without a draft.

Knows the decoder's seam and continuations; knows no graph, no text, nor where guesses come from.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gpt2onnx.runtime.decoder.protocol import AnyRow, Decoder, Ids, Logits
from gpt2onnx.runtime.decoding.plain import Continuation, Step, prefill

# A draft grows to this many tokens, or to what was asked for where that is more.
MOST_DRAFTED = 20


class Drafter(Protocol):
    """Guesses how a sequence goes on."""

    def draft(self, sequence: Continuation, count: int) -> Ids:
        """At most `count` tokens [n] that may follow; none where there is nothing to go by."""

    def release(self, sequence: Continuation) -> None:
        """Forget a sequence, if it was ever seen."""


@dataclass
class SpeculationStats:
    """How well a sequence's drafts did. The prompt's own run and its token aren't counted."""

    rounds: int = 0  # runs of the model
    tokens: int = 0  # that came of them
    drafted: int = 0
    accepted: int = 0

    @property
    def acceptance_rate(self) -> float:
        """The part of the drafted tokens that was kept; 0 where none was drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def tokens_per_step(self) -> float:
        """Tokens a run of the model, 1 without drafts; 0 where there was no run."""
        return self.tokens / self.rounds if self.rounds else 0.0


class Speculation:
    """A strategy: its `run` stands in for generation.run. For one call.

    The first draft has `count` tokens. As in transformers' heuristic the next one has two more
    where all were kept; otherwise it goes halfway back to as many as were, where transformers takes
    off one: a text turns hard to foresee at once, and each token that is judged in vain costs an
    eighth of a step. Never less than one, nor more than MOST_DRAFTED.
    """

    rows_each = 1

    def __init__(self, drafter: Drafter, count: int) -> None:
        self.stats: dict[int, SpeculationStats] = {}  # by the sequence's index
        self._drafter = drafter
        self._first, self._most = count, max(count, MOST_DRAFTED)
        self._counts: dict[int, int] = {}

    def run(
        self,
        decoder: Decoder[AnyRow],
        sequences: Sequence[Continuation],
        max_time: float | None = None,
    ) -> Generator[Step, None, None]:
        """Advance all sequences until each has finished; those of one prompt stand side by side.

        A sequence's tokens of one round come together. `max_time` is in seconds, looked at once a
        round. Closing the iterator frees the rows that are still in use, the drafter's too.
        """
        deadline = np.inf if max_time is None else time.monotonic() + max_time
        rows: dict[int, AnyRow] = {}
        live = list(sequences)
        self._counts = {sequence.index: self._first for sequence in live}
        self.stats.update((sequence.index, SpeculationStats()) for sequence in live)
        try:
            first = prefill(decoder, rows, ((each.index, each.prompt) for each in live))
            logits = {index: after[None] for index, after in first.items()}
            drafts = {sequence.index: np.empty(0, np.int64) for sequence in live}
            while live:
                in_time = time.monotonic() < deadline
                for each in live:
                    after, draft = logits[each.index], drafts[each.index]
                    yield from self._choose(decoder, rows, each, draft, after, in_time)
                live = [each for each in live if not each.finish_reason]
                drafts = {e.index: self._draft(decoder, rows[e.index], e) for e in live}
                logits = _judge(decoder, rows, live, drafts)
                self._count_rounds(drafts)
        finally:
            for row in rows.values():
                decoder.free(row)
            for sequence in sequences:
                self._drafter.release(sequence)

    def _draft(self, decoder: Decoder[AnyRow], row: AnyRow, sequence: Continuation) -> Ids:
        """Guesses [n] that there is use for: the newest token needs a place in the row as well.

        The last token that may come, and an end token, need no logits after them: neither is part
        of a draft.
        """
        room = min(decoder.n_positions - row.length, sequence.remaining) - 1
        count = min(self._counts[sequence.index], room)
        if count < 1:
            return np.empty(0, np.int64)
        draft = self._drafter.draft(sequence, count)
        eos = sequence.params.eos_token_ids
        return draft[: next((n for n, id_ in enumerate(draft.tolist()) if id_ in eos), None)]

    def _choose(
        self,
        decoder: Decoder[AnyRow],
        rows: dict[int, AnyRow],
        sequence: Continuation,
        draft: Ids,
        logits: Logits,
        in_time: bool,
    ) -> Generator[Step, None, None]:
        """Choose from logits [1 + n, vocab] for as long as the draft [n] foresaw the choice."""
        row = rows[sequence.index]
        before = row.length - len(draft)
        accepted = 0
        for position, after in enumerate(logits):
            has_room = before + position < decoder.n_positions
            step = sequence.choose(after, has_room, in_time)
            foreseen = position < len(draft) and step.token_id == int(draft[position])
            accepted += foreseen
            if step.finish_reason or not foreseen:
                break
            yield step
        self._note(sequence.index, draft, accepted, position + 1)
        if sequence.finish_reason:
            self._drafter.release(sequence)
            decoder.free(rows.pop(sequence.index))
        elif accepted < len(draft):
            decoder.truncate(row, before + accepted)
        yield step

    def _note(self, index: int, draft: Ids, accepted: int, tokens: int) -> None:
        stats = self.stats[index]
        if stats.rounds:
            stats.tokens += tokens
        stats.drafted += len(draft)
        stats.accepted += accepted
        if len(draft):
            count = self._counts[index]
            wanted = count + 2 if accepted == len(draft) else (count + accepted) // 2
            self._counts[index] = min(max(wanted, 1), self._most)

    def _count_rounds(self, drafts: dict[int, Ids]) -> None:
        for index in drafts:
            self.stats[index].rounds += 1


def _judge(
    decoder: Decoder[AnyRow],
    rows: dict[int, AnyRow],
    live: Sequence[Continuation],
    drafts: dict[int, Ids],
) -> dict[int, Logits]:
    """Append each sequence's newest token and its draft [n]: the logits [1 + n, vocab] after them.

    Sequences without a draft share one step.
    """
    logits = {}
    for sequence in live:
        if len(draft := drafts[sequence.index]):
            ids = np.concatenate([sequence.history[-1:], draft])
            logits[sequence.index] = decoder.extend(rows[sequence.index], ids)
    alone = [sequence for sequence in live if sequence.index not in logits]
    if alone:
        newest = np.array([sequence.history[-1] for sequence in alone])
        stepped = decoder.step([rows[sequence.index] for sequence in alone], newest)
        logits |= {s.index: after[None] for s, after in zip(alone, stepped, strict=True)}
    return logits
