"""A model without texts: prompts are token ids, and a fake decoder reads them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gpt2onnx.runtime.decoding.results import Token
from gpt2onnx.runtime.decoding.task import Task
from gpt2onnx.runtime.model import RoomCheck
from tests.runtime.engine.mixes import MixedDecoder, Request, request


class NumberedCall:
    """The request of a number, as Model.call would give it."""

    def __init__(self, asked: Request) -> None:
        self._asked = asked
        self.has_tokens, self.max_time, self.untold = True, None, 0
        self.tasks = [asked.task]
        self.scoring_tasks: list[Task[Any]] = []

    def take(self, event: Any) -> Token:
        return Token(event.token_id, "", event.logprob, event.finish_reason)

    def results(self) -> Any:
        return self._asked.outcome()


class FakeModel:
    """What an Engine asks of a model. A prompt is the number of a request of mixes.py."""

    def __init__(self) -> None:
        self.decoder = MixedDecoder()
        self.session = SimpleNamespace(runs_on=SimpleNamespace(in_host_memory=False))
        self.prefixes = SimpleNamespace(cache=lambda size: None)

    def call(self, prompt: int, *, room: RoomCheck) -> NumberedCall:
        asked = request(self.decoder, prompt)
        room(asked.task.rows_needed, 1, asked.task.length)
        return NumberedCall(asked)


def alone(number: int) -> Any:
    """What the request of a number comes to that nobody shares a run with."""
    from gpt2onnx.runtime.engine.loop import run

    decoder = MixedDecoder()
    asked = request(decoder, number)
    for _ in run(decoder, [asked.task]):
        pass
    return asked.outcome()
