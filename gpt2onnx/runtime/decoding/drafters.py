"""Where drafts come from: a smaller model, or what stands in the text already.

Knows the decoder's seam and token sequences; knows nothing of what becomes of a draft.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.decoder.protocol import NONE, AnyRow, Decoder, GreedyWriter, Ids, Read, Result
from gpt2onnx.runtime.decoding.sequence import TokenSequence
from gpt2onnx.samplers import Sampler

NOTHING: Ids = np.empty(0, np.int64)


class PromptLookup:
    """What followed the last time that the text stood where it stands now (Saxena, 2023, "Prompt
    Lookup Decoding"; LLMA, 2304.04487).

    Looks for the newest `ngram_size` tokens, then for fewer, and takes the latest place where they
    stand (transformers takes the first one). A repetition that is still going on is continued.
    """

    def __init__(self, ngram_size: int) -> None:
        self._ngram_size = ngram_size

    def draft(self, sequence: TokenSequence, count: int) -> Ids:
        return followed_by(sequence.history, self._ngram_size, count)

    def release(self, sequence: TokenSequence) -> None:
        """There is nothing to forget."""


def followed_by(history: Ids, ngram_size: int, count: int) -> Ids:  # [n] -> [count] or [0]
    """What came after the latest earlier place of the longest known ending of `history`."""
    for size in range(min(ngram_size, len(history) - 1), 0, -1):
        earlier = sliding_window_view(history[:-1], size)
        places = np.flatnonzero((earlier == history[-size:]).all(axis=1))
        if len(places):
            # Where the match reaches into the ending itself, this goes round as LZ77's copies do.
            return np.resize(history[places[-1] + size :], count)
    return NOTHING


@dataclass(eq=False)
class _Draft(Generic[AnyRow]):
    """A sequence in the draft model: its prompt, its row, and the tokens [n] that the row holds."""

    prompt: Ids
    row: AnyRow
    held: Ids


class DraftModel(Generic[AnyRow]):
    """A smaller model of the same vocabulary, with a row for each sequence.

    It draws as the sequence will: with the same parameters, and from a copy of the sequence's
    sampler, so with the same random numbers. A function such as prefix_allowed_tokens_fn is thus
    asked of drafted histories too. A draft ends before a token to which the draft itself gives a
    lower probability than `confidence`: it would likely be judged in vain.
    """

    def __init__(self, decoder: Decoder[AnyRow], confidence: float = 0.0) -> None:
        self._decoder, self._confidence = decoder, confidence
        self._drafts: dict[int, _Draft[AnyRow]] = {}

    def draft(self, sequence: TokenSequence, count: int) -> Ids:
        draft = self._drafts.get(sequence.index) or self._open(sequence)
        if self._decoder.writer and sequence.sampler.takes_largest:
            return self._written(self._decoder.writer, draft, sequence, count)
        sampler = sequence.sampler.fork()
        start = len(sequence.history)
        tokens = np.concatenate([sequence.history, np.empty(count, np.int64)])
        result = self._catch_up(draft, tokens[:start], sampler)
        end = start
        while end < start + count:
            try:
                choice = sampler.sample(tokens[:end], result.logits_at(-1), result.top_at(-1))
            except ParameterError:  # constraints leave none: the model may never come here
                break
            if math.exp(choice.processed_logprob) < self._confidence:
                break
            tokens[end] = choice.token
            end += 1
            if end == start + count or tokens[end - 1] in sequence.params.eos_token_ids:
                break
            result = self._read(draft, tokens[end - 1 : end], sampler)
        draft.held = tokens[: draft.row.length]
        return tokens[start:end]

    def _written(
        self,
        writer: GreedyWriter[AnyRow],
        draft: _Draft[AnyRow],
        sequence: TokenSequence,
        count: int,
    ) -> Ids:
        """The same draft, in one run."""
        lacking = self._lacking(draft, sequence.history)
        if len(lacking) > self._decoder.chunk:
            self._decoder.read([Read(draft.row, lacking[:-1], NONE, prompt=True)])
            lacking = lacking[-1:]
        tokens = writer.write(draft.row, lacking, count, self._confidence)
        draft.held = np.concatenate([sequence.history, tokens])[: draft.row.length]
        ends = np.flatnonzero(np.isin(tokens, sequence.params.eos_token_ids))
        return tokens[: ends[0] + 1] if len(ends) else tokens

    def release(self, sequence: TokenSequence) -> None:
        if draft := self._drafts.pop(sequence.index, None):
            self._decoder.free(draft.row)

    def _open(self, sequence: TokenSequence) -> _Draft[AnyRow]:
        """A row of its own; from a sequence of the same prompt, which needs no second prefill."""
        siblings = (each for each in self._drafts.values() if each.prompt is sequence.prompt)
        if sibling := next(siblings, None):
            row, held = self._decoder.fork(sibling.row), sibling.held
        else:
            longest = len(sequence.prompt) + sequence.params.max_new_tokens
            self._decoder.reserve(1, min(longest, self._decoder.n_positions))
            row, held = self._decoder.new_row(), NOTHING
        draft = self._drafts[sequence.index] = _Draft(sequence.prompt, row, held)
        return draft

    def _catch_up(self, draft: _Draft[AnyRow], history: Ids, sampler: Sampler) -> Result:
        """Make the row hold `history` [n]: what comes after it."""
        return self._read(draft, self._lacking(draft, history), sampler, prompt=True)

    def _lacking(self, draft: _Draft[AnyRow], history: Ids) -> Ids:
        """What the row lacks of `history` [n], at least a token; it forgets all else."""
        keep = min(_common_start(draft.held, history), len(history) - 1)
        if keep < draft.row.length:
            self._decoder.truncate(draft.row, keep)
        draft.held = history[:keep]  # what comes may fail, and leave the row with no more
        return history[keep:]

    def _read(
        self, draft: _Draft[AnyRow], ids: Ids, sampler: Sampler, prompt: bool = False
    ) -> Result:
        """Append ids [n] to the row: of what comes after them, all that the sampler looks at."""
        temperature, outside = sampler.sums
        read = Read(
            *(draft.row, ids),
            prompt=prompt,
            needs=sampler.needs,
            temperature=temperature,
            outside=outside,
        )
        (result,) = self._decoder.read([read])
        return result


def _common_start(a: Ids, b: Ids) -> int:  # [n], [m]
    """How many tokens both begin with alike."""
    shared = min(len(a), len(b))
    return int(np.argmin(np.append(a[:shared] == b[:shared], False)))
