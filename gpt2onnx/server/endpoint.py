"""Endpoints that take an object: a form to read it with, and what answers it.

All of them read a bounded body, and leave the event loop free: whatever takes time is a thread's,
or the engine's. Knows no endpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from gpt2onnx.errors import PromptError, RequestError
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.server.asked import Terms
from gpt2onnx.server.body import json_object, read_body
from gpt2onnx.server.event_stream import EventStream
from gpt2onnx.server.fields import Form
from gpt2onnx.server.json_answer import JsonAnswer
from gpt2onnx.server.places import Place
from gpt2onnx.server.schemas import Schema
from gpt2onnx.server.served import Served, ServedModels
from gpt2onnx.server.watching import watched
from gpt2onnx.serving.handle import Handle

Answer = Callable[[Served, dict[str, Any]], Any]


class Work(Protocol):
    """What an engine took."""

    @property
    def handle(self) -> Handle: ...


class ToDo(Protocol):
    """What was understood, before an engine takes it."""

    @property
    def served(self) -> Served: ...
    @property
    def params(self) -> GenerationParams | None:
        """Where it writes, how: a constraint in it is bounded before it is compiled."""

    def submit(self, terms: Terms) -> Any:
        """Have the engine take it: the Work."""


@dataclass(frozen=True)
class Endpoint(ABC):
    """A path, and what it takes."""

    path: str
    summary: str
    form: Form
    answer_schema: Schema

    async def respond(self, request: Request) -> Response:
        """Answer a request. Raises what its parts raise."""
        try:
            return await self._respond(request)
        except PromptError as error:
            raise RequestError(str(error), param=self.prompt, code="invalid_prompt") from None

    @property
    @abstractmethod
    def prompt(self) -> str:
        """The field that a text to be read is in."""

    @abstractmethod
    async def _respond(self, request: Request) -> Response:
        """Answer a request. Raises what its parts raise."""

    async def read(self, request: Request, answer: Answer) -> Any:
        """What `answer` makes of the model that is asked for, and the fields."""
        return await self.understand(request, await read_body(request), answer)

    async def understand(self, request: Request, body: bytes, answer: Answer) -> Any:
        """The same of a body that was read."""
        return await to_thread.run_sync(partial(self._read, request.app.state.models, body, answer))

    def _read(self, models: ServedModels, body: bytes, answer: Answer) -> Any:
        fields = self.form.read(json_object(body))
        return answer(models.find(fields.pop("model", None)), fields)


@dataclass(frozen=True)
class ThreadEndpoint(Endpoint):
    """One that a thread answers."""

    answer: Answer
    prompt: str = "prompt"

    async def _respond(self, request: Request) -> Response:
        response: Response = await self.read(request, self._whole)
        return response

    def _whole(self, served: Served, fields: dict[str, Any]) -> Response:
        return JsonAnswer(self.answer(served, fields))


@dataclass(frozen=True)
class EngineEndpoint(Endpoint):
    """One that an engine works for: answers with whole results, or streams objects."""

    prepare: Callable[[Served, dict[str, Any]], ToDo]
    whole: Callable[[Any, Any], Mapping[str, Any]]
    objects: Callable[[Any], AsyncGenerator[Mapping[str, Any], None]] | None = None
    prompt: str = "prompt"

    async def _respond(self, request: Request) -> Response:
        request.app.state.places.require()
        body = await read_body(request)
        with request.app.state.places.take() as place:
            work: Any = await self._submitted(request, body, place)
        if self.objects and work.options.stream:
            return EventStream(self.objects(work), work.handle)
        async with watched(request.receive, work.handle):
            results = await work.handle
        return await to_thread.run_sync(partial(self._whole, work, results))

    async def _submitted(self, request: Request, body: bytes, place: Place) -> Work:
        """What an engine took of a body."""
        to_do: ToDo = await self.understand(request, body, self.prepare)
        if to_do.params and to_do.params.constraint:
            place.give_back()  # a new one takes up to seconds, and waits for others of its kind
            await to_do.served.constraints.require_bounded(to_do.params)
        terms = Terms(request.scope.get("gpt2onnx.tenant"), request.app.state.queue_timeout)
        work: Work = await to_thread.run_sync(partial(to_do.submit, terms))
        return work

    def _whole(self, work: Work, results: Any) -> Response:
        return JsonAnswer(self.whole(work, results))
