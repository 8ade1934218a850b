"""Lookahead decoding: the model guesses its own n-grams, and judges those that fit, in one run.

Fu et al., 2402.02057. Beside a sequence's newest token each run reads two branches. The lookahead
branch is a window of guesses at what will stand at the next positions, and each run makes them
better by one Jacobi iteration: what the model says after them are the next run's. What stood at
neighbouring positions in successive iterations is an n-gram, and goes to the sequence's pool. The
verification branch is the pool's n-grams that begin with the newest token. Token by token the
sequence's own sampler chooses from the model's logits for as long as one of them foresaw the
choice; so, as `speculation` explains, the tokens are those of plain decoding.

As the authors' code can, the pool also learns the n-grams of the prompt and of the new text
(docs/log.md says what that gives); those that begin alike are read once. Each sequence has a pool
of its own: how fast it goes doesn't depend on its neighbours.

Knows the decoder's seam and continuations; knows no graph and no text.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from itertools import takewhile
from typing import Any, Generic, NamedTuple, cast

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.runtime.decoder.protocol import AnyRow, BranchingDecoder, Decoder, Logits
from gpt2onnx.runtime.decoding.lookahead.draft_tree import DraftTree
from gpt2onnx.runtime.decoding.lookahead.ngrams import NgramPool
from gpt2onnx.runtime.decoding.lookahead.window import JacobiWindow
from gpt2onnx.runtime.decoding.plain import Continuation, Step, prefill
from gpt2onnx.runtime.decoding.speculation import SpeculationStats
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.params import LOOKAHEAD


class LookaheadSizes(NamedTuple):
    """How much a run reads: at most (window + guess_set) * (ngram - 1) tokens.

    The paper's W, N and G are 15, 5 and 15 for a GPU, to which more tokens are nearly free. These
    defaults are for a CPU, where each one costs (docs/log.md).
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

    Errors: ParameterError where the model can't be told what each token sees, and for sizes that
    it has no positions for.
    """
    sizes = lookahead_sizes(params)
    if sizes is None:
        return None
    _with_branches(decoder)
    _require_fitting(sizes, decoder.n_positions)
    return Lookahead(sizes)


class Lookahead:
    """A strategy: its `run` stands in for generation.run. For one call."""

    rows_each = 1

    def __init__(self, sizes: LookaheadSizes) -> None:
        self.stats: dict[int, SpeculationStats] = {}  # by the sequence's index
        self._sizes = sizes
        self.reads_ahead = (sizes.window + sizes.guess_set) * (sizes.ngram - 1)  # at most

    def run(
        self,
        decoder: Decoder[AnyRow],
        sequences: Sequence[Continuation],
        max_time: float | None = None,
    ) -> Generator[Step, None, None]:
        """Advance all sequences until each has finished; those of one prompt stand side by side.

        A sequence's tokens of one round come together. `max_time` is in seconds, looked at once a
        round. Closing the iterator frees the rows that are still in use.
        """
        deadline = np.inf if max_time is None else time.monotonic() + max_time
        branching = _with_branches(decoder)
        rows: dict[int, AnyRow] = {}
        self.stats.update((sequence.index, SpeculationStats()) for sequence in sequences)
        try:
            logits = prefill(decoder, rows, ((each.index, each.prompt) for each in sequences))
            live = [
                _Reader(branching, each, rows[each.index], logits[each.index], self._sizes)
                for each in sequences
            ]
            while live:
                in_time = time.monotonic() < deadline
                for each in live:
                    yield from each.choose(in_time, self.stats[each.sequence.index])
                    if each.sequence.finish_reason:
                        decoder.free(rows.pop(each.sequence.index))
                live = [each for each in live if not each.sequence.finish_reason]
                _read(branching, live)
                for each in live:
                    self.stats[each.sequence.index].rounds += 1
        finally:
            for row in rows.values():
                decoder.free(row)


class _Reader(Generic[AnyRow]):
    """One sequence: its row, its window and pool, and what the latest run said."""

    def __init__(
        self,
        decoder: BranchingDecoder[AnyRow],
        sequence: Continuation,
        row: AnyRow,
        logits: Logits,
        sizes: LookaheadSizes,
    ) -> None:
        """`logits` [vocab] are those after the prompt, which the row holds."""
        self.sequence, self.row = sequence, row
        self.logits = logits[None]  # [1 + drafted, vocab]
        self._decoder, self._ngram_size = decoder, sizes.ngram
        self._pool = NgramPool(sizes.guess_set)
        self._pool.add_text(sequence.prompt, sizes.ngram)
        self._window = JacobiWindow(sizes.window, sizes.ngram - 1, sequence.prompt)
        self._tree = DraftTree()
        self._has_window = False

    @property
    def looks_ahead(self) -> bool:
        """Whether the next run reads more than the newest token."""
        return self._has_window or len(self._tree) > 0

    def choose(self, in_time: bool, stats: SpeculationStats) -> Generator[Step, None, None]:
        """Choose from the logits for as long as a guess foresaw the choice; then guess again."""
        sequence = self.sequence
        start = len(sequence.history)
        path = [0]
        while True:
            has_room = len(sequence.history) < self._decoder.n_positions
            step = sequence.choose(self.logits[path[-1]], has_room, in_time)
            child = self._tree.child(path[-1], step.token_id)
            if step.finish_reason or child is None:
                break
            yield step
            path.append(child)
        accepted = len(path) - (child is None)
        stats.drafted += len(self._tree)
        stats.accepted += accepted
        if stats.rounds:
            stats.tokens += len(path)
        if not step.finish_reason:
            self._keep(start, path)
            self._plan()
        yield step

    def _keep(self, start: int, path: list[int]) -> None:
        """Keep what was foreseen behind `start` tokens, and learn the n-grams that came."""
        if self.row.length > start:
            self._decoder.keep(self.row, start - 1, np.array(path))
        newest = self.sequence.history[1 - self._ngram_size - len(path) :]
        self._pool.add_text(newest, self._ngram_size)

    def _plan(self) -> None:
        """Decide what the next run reads beside the newest token: what there is room for.

        As in speculation, neither the last token that may come nor an end token is drafted.
        """
        free = self._decoder.n_positions - len(self.sequence.history)
        longest = min(free, self.sequence.remaining - 1)
        others = self._window.tokens.size - 1
        self._has_window = longest > 0 and 0 < others <= free
        count = (free - others * self._has_window) // (self._ngram_size - 1)
        guesses = self._pool.after(int(self.sequence.history[-1]))[:count]
        ends = self.sequence.params.eos_token_ids
        self._tree = DraftTree(
            takewhile(lambda token: token not in ends, guess[:longest]) for guess in guesses
        )

    def read(self) -> None:
        """Read the newest token and all that was planned, in one run."""
        tree, window = self._tree, self._window
        window.tokens[0, 0] = self.sequence.history[-1]
        read = window.tokens.size if self._has_window else 1
        drafted = 1 + len(tree)
        ids = np.concatenate([window.tokens[0, :1], tree.ids, window.tokens.ravel()[1:read]])
        places = np.r_[0, drafted : len(ids)]  # where the window's tokens are
        sees = np.zeros((len(ids), len(ids)), np.bool_)
        sees[np.ix_(places, places)] = window.sees[:read, :read]
        sees[:drafted, :drafted] = tree.sees
        last_level = places[read - window.width :] if self._has_window else []
        wanted = np.concatenate([np.arange(drafted), last_level]).astype(np.int64)
        logits = self._decoder.branch(self.row, ids, sees, wanted)
        self.logits = logits[:drafted]
        if self._has_window:
            self._pool.add(window.advance(logits[drafted:].argmax(axis=1)).tolist())


def _read(decoder: Decoder[AnyRow], live: Sequence[_Reader[AnyRow]]) -> None:
    """Run the model on what each sequence planned; those with no more than a token share a step."""
    alone = [each for each in live if not each.looks_ahead]
    if alone:
        newest = np.array([each.sequence.history[-1] for each in alone])
        stepped = decoder.step([each.row for each in alone], newest)
        for each, logits in zip(alone, stepped, strict=True):
            each.logits = logits[None]
    for each in live:
        if each.looks_ahead:
            each.read()


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


def _with_branches(decoder: Decoder[AnyRow]) -> BranchingDecoder[AnyRow]:
    """The same decoder, which can branch. Errors: ParameterError where it can't."""
    if not getattr(decoder, "can_branch", False):
        raise ParameterError(
            "lookahead decoding tells the model what each token sees, which its graph can't be "
            "told: export the model again with with_attention_bias=True (--with-attention-bias), "
            "or leave the lookahead parameters out"
        )
    return cast(BranchingDecoder[AnyRow], decoder)
