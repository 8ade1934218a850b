"""Beam search from prompts to Generations: what the searches find, and the texts that it makes.

Knows searches, tokenizers and results; what a step is, `beams` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tokenizers

from gpt2onnx.runtime.decoder.protocol import Decoder, Ids, Logits
from gpt2onnx.runtime.decoding.beams import BeamTask, Observer
from gpt2onnx.runtime.decoding.results import Alternative, Generation, Token
from gpt2onnx.runtime.decoding.sequence import FinishReason
from gpt2onnx.runtime.text.stop_strings import TextStream
from gpt2onnx.samplers import BeamSearch, Branch, Finished, GenerationParams

Alternatives = Callable[[Logits], tuple[Alternative, ...]]


class BeamTexts:
    """What beam searches find: a task for each prompt, and the texts that it comes to."""

    def __init__(
        self,
        decoder: Decoder[Any],
        tokenizer: tokenizers.Tokenizer,
        prompts: Sequence[Ids],
        params: GenerationParams,
        alternatives: Alternatives,
        observe: Observer | None = None,
    ) -> None:
        """`alternatives` says what to note of a row of logits [vocab]; `observe` is told of every
        step.
        """
        self._writers = [
            _BeamWriter(tokenizer, params, prompt, index, decoder.n_positions, alternatives)
            for index, prompt in enumerate(prompts)
        ]
        self._observe = observe
        self.tasks = [
            BeamTask(decoder, writer.search, index, self._note)
            for index, writer in enumerate(self._writers)
        ]

    def texts(self) -> list[list[Generation]]:
        """The best texts of each prompt, at most num_return_sequences, best first."""
        return [[writer.written(each) for each in writer.search.best()] for writer in self._writers]

    def _note(self, index: int, logits: Logits, branches: Sequence[Branch]) -> None:
        self._writers[index].note(logits)
        if self._observe:
            self._observe(index, logits, branches)


class _BeamWriter:
    """One prompt's search, and the texts that its hypotheses make."""

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        params: GenerationParams,
        prompt: Ids,
        index: int,
        n_positions: int,
        alternatives: Alternatives,
    ) -> None:
        self._start = TextStream(tokenizer, params.stop_strings or (), prompt.tolist())
        stops = _StopStrings(self._start) if params.stop_strings else _never
        # The last token that is chosen needs no position.
        room = n_positions - len(prompt) + 1
        self.search = BeamSearch(params, prompt, index, room, stops)
        self._alternatives = alternatives
        self._noted: list[list[tuple[Alternative, ...]]] = []

    def note(self, logits: Logits) -> None:
        """Keep each running hypothesis' alternatives of this step."""
        self._noted.append([self._alternatives(row) for row in logits])

    def written(self, finished: Finished) -> Generation:
        tokens, _, logprobs, beams, _ = finished.hypothesis
        prompt, new = tokens[: -len(beams)].tolist(), tokens[-len(beams) :].tolist()
        text = self._start.fork()
        written = Generation(prompt, score=finished.score)
        for step, token in enumerate(new):
            last = step == len(new) - 1
            piece = text.push(token) + (text.finish() if last else "")
            reason = self._reason(finished) if last else None
            noted = self._noted[step][beams[step]]
            written.add(Token(token, piece, float(logprobs[step]), reason, noted))
        return written

    def _reason(self, finished: Finished) -> FinishReason:
        if finished.ending != "limit":
            return finished.ending
        return "length" if self.search.limit == self.search.params.max_new_tokens else "context"


class _StopStrings:
    """Whether a hypothesis' last token completes a stop string.

    Each hypothesis' text goes on from its parent's, which was looked at one token before.
    """

    def __init__(self, start: TextStream) -> None:
        self._parents: dict[bytes, TextStream] = {}
        self._texts = {b"": start}
        self._length = 0

    def __call__(self, written: Ids) -> bool:  # [new]
        if len(written) > self._length:
            self._parents, self._texts, self._length = self._texts, {}, len(written)
        text = self._parents[written[:-1].tobytes()].fork()
        text.push(int(written[-1]))
        self._texts[written.tobytes()] = text
        return text.stopped


def _never(written: Ids) -> bool:
    return False
