"""Lookahead decoding: the model guesses its own n-grams, and judges those that fit, in one run.

Fu et al., 2402.02057. Beside a sequence's newest token each run reads two branches. The lookahead
branch is a window of guesses at what will stand at the next positions, and each run makes them
better by one Jacobi iteration: what the model says after them are the next run's. What stood at
neighbouring positions in successive iterations is an n-gram, and goes to the sequence's pool. The
verification branch is the pool's n-grams that begin with the newest token. Token by token the
sequence's own sampler chooses from the model's logits for as long as one of them foresaw the
choice; so, as `speculation` explains, the tokens are those of plain decoding.

As the authors' code can, the pool also learns the n-grams of the prompt and of the new text
(docs/notes/decoding.md says what that gives); those that begin alike are read once. Each sequence
has a pool of its own: how fast it goes doesn't depend on its neighbours.

Knows the decoder's seam and token sequences; knows no graph and no text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.runtime.decoder.protocol import Decoder, Logits, Read, Result
from gpt2onnx.runtime.decoding.lookahead.draft_tree import DraftTree
from gpt2onnx.runtime.decoding.lookahead.ngrams import NgramPool
from gpt2onnx.runtime.decoding.lookahead.window import JacobiWindow
from gpt2onnx.runtime.decoding.sequence import Step, TokenSequence
from gpt2onnx.runtime.decoding.speculation import SpeculationStats
from gpt2onnx.runtime.decoding.task import DrawingTask, by_prompt
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.params import LOOKAHEAD


class LookaheadSizes(NamedTuple):
    """How much a run reads: at most (window + guess_set) * (ngram - 1) tokens.

    The paper's W, N and G are 15, 5 and 15 for a GPU, to which more tokens are nearly free. These
    defaults are for a CPU, where each one costs (docs/notes/decoding.md).
    """

    window: int = 1
    ngram: int = 4
    guess_set: int = 1


def lookahead_sizes(params: GenerationParams) -> LookaheadSizes | None:
    """The sizes that the parameters ask for: any that is given turns it on. None where none is."""
    sizes = [getattr(params, name) for name in LOOKAHEAD]
    if sizes == [None] * 3:
        return None
    pairs = zip(sizes, LookaheadSizes(), strict=True)
    return LookaheadSizes(*(default if size is None else size for size, default in pairs))


def lookahead_of(params: GenerationParams, decoder: Decoder[Any]) -> Lookahead | None:
    """The strategy that the parameters ask for; None where none is.

    Raises ParameterError where the model can't be told what each token sees, and for sizes that
    it has no positions for.
    """
    sizes = lookahead_sizes(params)
    if sizes is None:
        return None
    require_branches(decoder)
    _require_fitting(sizes, decoder.n_positions)
    return Lookahead(sizes)


class Lookahead:
    """A strategy: its sizes, and how its guesses do. For one call."""

    rows_each = 1

    def __init__(self, sizes: LookaheadSizes) -> None:
        self.stats: dict[int, SpeculationStats] = defaultdict(SpeculationStats)  # by index
        self.sizes = sizes
        self.reads_ahead = (sizes.window + sizes.guess_set) * (sizes.ngram - 1)  # at most

    def tasks(
        self, decoder: Decoder[Any], sequences: Sequence[TokenSequence]
    ) -> list[LookaheadTask]:
        """A task for each prompt; those of one prompt stand side by side."""
        require_branches(decoder)
        return [LookaheadTask(decoder, group, self) for group in by_prompt(sequences)]


class LookaheadTask(DrawingTask):
    """One prompt's sequences, each of which reads its newest token among guesses.

    A sequence's tokens of one round come together.
    """

    def __init__(
        self, decoder: Decoder[Any], sequences: Iterable[TokenSequence], lookahead: Lookahead
    ) -> None:
        super().__init__(decoder, sequences)
        self.length += lookahead.reads_ahead
        self._stats = lookahead.stats
        self._guesses = {each.index: _Guesses(each, lookahead.sizes) for each in self.live}

    def next_read(self, sequence: TokenSequence) -> Read:
        guesses, row = self._guesses[sequence.index], self.row(sequence)
        guesses.plan(self.decoder.n_positions - len(sequence.history))
        self._stats[sequence.index].rounds += 1
        return guesses.read(row)

    def sample(self, sequence: TokenSequence, result: Result, in_time: bool) -> list[Step]:
        """Choose for as long as a guess foresaw the choice."""
        guesses, row = self._guesses[sequence.index], self.row(sequence)
        start = len(sequence.history)
        guesses.take(result.logits)
        path, steps = [0], []
        while True:
            has_room = len(sequence.history) < self.decoder.n_positions
            steps.append(sequence.sample_from(result, path[-1], has_room, in_time))
            child = guesses.tree.child(path[-1], steps[-1].token_id)
            if sequence.finish_reason or child is None:
                break
            path.append(child)
        self._note(sequence, len(guesses.tree), len(path) - (child is None), len(steps))
        if not sequence.finish_reason:
            if row.length > start:  # more was read than the newest token
                self.decoder.accept(row, start - 1, np.array(path))
            guesses.learn(len(path))
        return steps

    def _note(self, sequence: TokenSequence, drafted: int, accepted: int, tokens: int) -> None:
        stats = self._stats[sequence.index]
        stats.drafted += drafted
        stats.accepted += accepted
        if stats.rounds:
            stats.tokens += tokens


class _Guesses:
    """One sequence's window and pool, and what is read of them beside its newest token."""

    def __init__(self, sequence: TokenSequence, sizes: LookaheadSizes) -> None:
        self.tree = DraftTree()
        self._sequence, self._ngram_size = sequence, sizes.ngram
        self._pool = NgramPool(sizes.guess_set)
        self._pool.add_text(sequence.history, sizes.ngram)
        self._window = JacobiWindow(sizes.window, sizes.ngram - 1, sequence.history)
        self._has_window = False

    def plan(self, free: int) -> None:
        """Decide what is read beside the newest token: what there is room for, `free` positions.

        As in speculation, neither the last token that may come nor an end token is drafted.
        """
        sequence = self._sequence
        longest = min(free, sequence.remaining - 1)
        others = self._window.tokens.size - 1
        self._has_window = longest > 0 and 0 < others <= free
        count = (free - others * self._has_window) // (self._ngram_size - 1)
        guesses = self._pool.after(int(sequence.history[-1]))[:count]
        ends = sequence.params.eos_token_ids
        self.tree = DraftTree(
            takewhile(lambda token: token not in ends, guess[:longest]) for guess in guesses
        )

    def read(self, row: Any) -> Read:
        """The newest token and all that was planned, in one run."""
        tree, window = self.tree, self._window
        window.tokens[0, 0] = self._sequence.history[-1]
        read = window.tokens.size if self._has_window else 1
        drafted = 1 + len(tree)
        ids = np.concatenate([window.tokens[0, :1], tree.ids, window.tokens.ravel()[1:read]])
        temperature, outside = self._sequence.sampler.sums
        if len(ids) == 1:
            return Read(row, ids, temperature=temperature, outside=outside)
        places = np.r_[0, drafted : len(ids)]  # where the window's tokens are
        attention_mask = np.zeros((len(ids), len(ids)), np.bool_)
        attention_mask[np.ix_(places, places)] = window.attention_mask[:read, :read]
        attention_mask[:drafted, :drafted] = tree.attention_mask
        last_level = places[read - window.width :] if self._has_window else []
        wanted = np.concatenate([np.arange(drafted), last_level]).astype(np.int64)
        return Read(
            *(row, ids, wanted),
            temperature=temperature,
            outside=outside,
            attention_mask=attention_mask,
        )

    def take(self, logits: Logits) -> None:  # [wanted, vocab]
        """Make the window's next level of what was read behind the newest token and the tree."""
        if self._has_window:
            said = logits[1 + len(self.tree) :].argmax(axis=1)
            self._pool.add(self._window.advance(said).tolist())

    def learn(self, tokens: int) -> None:
        """Add the n-grams that the newest tokens made."""
        newest = self._sequence.history[1 - self._ngram_size - tokens :]
        self._pool.add_text(newest, self._ngram_size)


def _require_fitting(sizes: LookaheadSizes, n_positions: int) -> None:
    window, ngram = Given("lookahead_window_size"), Given("lookahead_ngram_size")
    for named, count in (
        ((window, " and ", ngram, " ask"), sizes.window * (sizes.ngram - 1)),
        ((Given("lookahead_guess_set_size"), " asks"), sizes.guess_set),
    ):
        if count > n_positions:
            raise ParameterError(
                *named,
                f" for {count} guesses: expected at most {n_positions}, the model's positions",
            )


def require_branches(decoder: Decoder[Any]) -> None:
    """Raises ParameterError where the decoder can't be told what each token sees."""
    if not decoder.can_branch:
        raise ParameterError(
            "lookahead decoding tells the model what each token sees, which its graph can't be "
            "told: export the model again with with_attention_bias=True (--with-attention-bias), "
            "or leave the lookahead parameters out"
        )
