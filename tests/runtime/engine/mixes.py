"""Tasks of every kind on a fake decoder, by number: the same number is the same request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2onnx.runtime.decoder.protocol import Ids, Read, Result
from gpt2onnx.runtime.decoding.beams import BeamTask
from gpt2onnx.runtime.decoding.contrastive import Contrastive
from gpt2onnx.runtime.decoding.drafters import DraftModel, PromptLookup
from gpt2onnx.runtime.decoding.guidance import Guidance
from gpt2onnx.runtime.decoding.lookahead.lookahead import Lookahead, LookaheadSizes
from gpt2onnx.runtime.decoding.plain import plain_tasks
from gpt2onnx.runtime.decoding.scoring import LogprobsTask
from gpt2onnx.runtime.decoding.sequence import TokenSequence
from gpt2onnx.runtime.decoding.speculation import Speculation
from gpt2onnx.runtime.decoding.task import Task
from gpt2onnx.samplers import BeamSearch, GenerationParams
from tests.fake_decoder import FakeDecoder, by_history

VOCAB = 10
RULE, DRAFT_RULE, STATE = by_history(VOCAB), by_history(VOCAB, seed=1), by_history(4, seed=9)


class MixedDecoder(FakeDecoder):
    """Tells hidden states, too, and reads prompts in small chunks."""

    hidden_size = 4

    def __init__(self, n_positions: int = 40, chunk: int = 4) -> None:
        super().__init__(RULE, n_positions)
        self.chunk = chunk

    def _read(self, read: Read) -> Result:
        start = read.row.length
        result = super()._read(read)
        every = np.arange(start, read.row.length) + 1
        ends = every if read.hidden else every[read.wanted]
        hidden = [STATE(tuple(read.row.held[:end])) for end in ends]
        return result._replace(hidden=np.array(hidden, np.float32).reshape(-1, 4))


@dataclass
class Request:
    """One request's task, and what it comes to, which is known once it is done."""

    task: Task[Any]
    outcome: Callable[[], Any]


def sequences(prompt: Ids, count: int = 1, **parameters: Any) -> list[TokenSequence]:
    several = {"num_return_sequences": count} if count > 1 else {}
    params = GenerationParams.create({**several, **parameters})
    return [TokenSequence(draw, prompt, params, draw) for draw in range(count)]


def written(all_of: list[TokenSequence]) -> Callable[[], Any]:
    return lambda: [(each.history.tolist(), each.finish_reason) for each in all_of]


def request(decoder: FakeDecoder, number: int) -> Request:
    """The request of that number."""
    rng = np.random.default_rng(number)
    prompt = rng.integers(0, VOCAB, rng.integers(1, 20))
    more = {"max_new_tokens": int(rng.integers(1, 9)), "eos_token_id": 0}
    drawn = {"do_sample": True, "seed": number, "top_k": 6}
    kind = KINDS[number % len(KINDS)]
    return kind(decoder, prompt, more, drawn)


def _plain(decoder: Any, prompt: Ids, more: Any, drawn: Any) -> Request:
    each = sequences(prompt, 3, **more, **drawn)
    return Request(plain_tasks(decoder, each)[0], written(each))


def _greedy(decoder: Any, prompt: Ids, more: Any, drawn: Any) -> Request:
    each = sequences(prompt, overflow="slide", **{**more, "max_new_tokens": 45})
    return Request(plain_tasks(decoder, each, whole=False)[0], written(each))


def _guided(decoder: Any, prompt: Ids, more: Any, drawn: Any) -> Request:
    each = sequences(prompt, 2, **more, **drawn)
    return Request(Guidance(1.5, np.arange(5)).tasks(decoder, each)[0], written(each))


def _contrastive(decoder: Any, prompt: Ids, more: Any, drawn: Any) -> Request:
    each = sequences(prompt, **more)
    return Request(Contrastive(0.6, 3).tasks(decoder, each)[0], written(each))


def _lookup(decoder: Any, prompt: Ids, more: Any, drawn: Any) -> Request:
    each = sequences(prompt, **more)
    return Request(Speculation(PromptLookup(2), 3).tasks(decoder, each)[0], written(each))


def _drafted(decoder: Any, prompt: Ids, more: Any, drawn: Any) -> Request:
    each = sequences(prompt, 2, **more, **drawn)
    drafter = DraftModel(FakeDecoder(DRAFT_RULE, decoder.n_positions))
    return Request(Speculation(drafter, 3).tasks(decoder, each)[0], written(each))


def _lookahead(decoder: Any, prompt: Ids, more: Any, drawn: Any) -> Request:
    each = sequences(prompt, **more)
    return Request(Lookahead(LookaheadSizes(2, 3, 2)).tasks(decoder, each)[0], written(each))


def _beams(decoder: Any, prompt: Ids, more: Any, drawn: Any) -> Request:
    params = GenerationParams.create({**more, "num_beams": 4, "num_return_sequences": 2})
    search = BeamSearch(params, prompt, 0, decoder.n_positions - len(prompt) + 1)
    return Request(
        BeamTask(decoder, search, 0),
        lambda: [(best.hypothesis.tokens.tolist(), best.score) for best in search.best()],
    )


def _forced_beams(decoder: Any, prompt: Ids, more: Any, drawn: Any) -> Request:
    params = GenerationParams.create({**more, "num_beams": 3, "force_words_ids": [[3]]})
    search = BeamSearch(params, prompt, 0, decoder.n_positions - len(prompt) + 1)
    return Request(
        BeamTask(decoder, search, 0),
        lambda: [best.hypothesis.tokens.tolist() for best in search.best()],
    )


def _scored(decoder: Any, prompt: Ids, more: Any, drawn: Any) -> Request:
    task = LogprobsTask(decoder, np.resize(prompt, 3 * len(prompt) + 2))
    return Request(task, lambda: task.logprobs.tolist())


KINDS = (
    *(_plain, _greedy, _guided, _contrastive, _lookup, _drafted, _lookahead, _beams),
    *(_forced_beams, _scored),
)
