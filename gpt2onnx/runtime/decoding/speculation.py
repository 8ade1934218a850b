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

Knows the decoder's seam and token sequences; knows no graph, no text, nor where guesses come from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gpt2onnx.runtime.decoder.protocol import EVERY, Decoder, Ids, Read, Result
from gpt2onnx.runtime.decoding.sequence import Step, TokenSequence
from gpt2onnx.runtime.decoding.task import DrawingTask, by_prompt

# A draft grows to this many tokens, or to what was asked for where that is more.
MOST_DRAFTED = 20
NOTHING: Ids = np.empty(0, np.int64)


class Drafter(Protocol):
    """Guesses how a sequence goes on."""

    def draft(self, sequence: TokenSequence, count: int) -> Ids:
        """At most `count` tokens [n] that may follow; none where there is nothing to go by."""

    def release(self, sequence: TokenSequence) -> None:
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
    """A strategy: a drafter, and how its drafts do. For one call.

    The first draft has `count` tokens. As in transformers' heuristic the next one has two more
    where all were kept; otherwise it goes halfway back to as many as were, where transformers takes
    off one: a text turns hard to foresee at once, and each token that is judged in vain costs an
    eighth of a step. Never less than one, nor more than MOST_DRAFTED.
    """

    rows_each = 1

    def __init__(self, drafter: Drafter, count: int) -> None:
        self.stats: dict[int, SpeculationStats] = defaultdict(SpeculationStats)  # by index
        self.drafter = drafter
        self._most = max(count, MOST_DRAFTED)
        self._counts: dict[int, int] = defaultdict(lambda: count)

    def tasks(
        self, decoder: Decoder[Any], sequences: Sequence[TokenSequence]
    ) -> list[SpeculativeTask]:
        """A task for each prompt; those of one prompt stand side by side."""
        return [SpeculativeTask(decoder, group, self) for group in by_prompt(sequences)]

    def draft(self, sequence: TokenSequence, room: int) -> Ids:
        """Guesses [n] at what follows, at most `room`; none behind an end token.

        The last token that may come, and an end token, need no logits after them: neither is part
        of a draft.
        """
        count = min(self._counts[sequence.index], min(room, sequence.remaining) - 1)
        if count < 1:
            return NOTHING
        draft = self.drafter.draft(sequence, count)
        eos = sequence.params.eos_token_ids
        return draft[: next((n for n, id_ in enumerate(draft.tolist()) if id_ in eos), None)]

    def note(self, sequence: TokenSequence, drafted: int, accepted: int, tokens: int) -> None:
        """Count a round, and decide how many the next one drafts."""
        stats, index = self.stats[sequence.index], sequence.index
        if stats.rounds:
            stats.tokens += tokens
        stats.drafted += drafted
        stats.accepted += accepted
        if drafted:
            count = self._counts[index]
            wanted = count + 2 if accepted == drafted else (count + accepted) // 2
            self._counts[index] = min(max(wanted, 1), self._most)


class SpeculativeTask(DrawingTask):
    """One prompt's sequences, each of which reads its newest token with a draft behind it.

    A sequence's tokens of one round come together.
    """

    def __init__(
        self, decoder: Decoder[Any], sequences: Iterable[TokenSequence], speculation: Speculation
    ) -> None:
        super().__init__(decoder, sequences)
        self._speculation = speculation
        self._drafts = {sequence.index: NOTHING for sequence in self.live}

    def next_read(self, sequence: TokenSequence) -> Read:
        row = self.row(sequence)
        draft = self._speculation.draft(sequence, self.decoder.n_positions - row.length)
        self._drafts[sequence.index] = draft
        self._speculation.stats[sequence.index].rounds += 1
        ids = np.concatenate([sequence.history[-1:], draft])
        temperature, outside = sequence.sampler.sums
        return Read(row, ids, EVERY, temperature=temperature, outside=outside)

    def sample(self, sequence: TokenSequence, result: Result, in_time: bool) -> list[Step]:
        """Choose for as long as the draft foresaw the choice."""
        row, draft = self.row(sequence), self._drafts[sequence.index]
        before = row.length - len(draft)
        accepted, steps = 0, []
        for position in range(len(result.logits)):
            has_room = before + position < self.decoder.n_positions
            steps.append(sequence.sample_from(result, position, has_room, in_time))
            foreseen = position < len(draft) and steps[-1].token_id == int(draft[position])
            accepted += foreseen
            if sequence.finish_reason or not foreseen:
                break
        self._speculation.note(sequence, len(draft), accepted, len(steps))
        if accepted < len(draft) and not sequence.finish_reason:
            self.decoder.truncate(row, before + accepted)
        return steps

    def forget(self, sequence: TokenSequence) -> None:
        self._speculation.drafter.release(sequence)
