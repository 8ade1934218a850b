"""Answers lines with one engine, whose rows are kept full.

An OpenAI line is a request to a path, and the server's application answers it, within the process;
a prompt goes to the engine itself. So a batch answers as the server and `generate` do. Knows
engines and requests; knows nothing of files, shards and processes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gpt2onnx.batch import in_process
from gpt2onnx.batch.lines import Line
from gpt2onnx.batch.output_lines import answer_line, error_line
from gpt2onnx.batch.records import Kind, Record
from gpt2onnx.batch.requests import Asked, LineError, in_order, merged, read
from gpt2onnx.errors import Gpt2OnnxError, RequestCancelledError, RequestError
from gpt2onnx.runtime.decoding.results import Generation
from gpt2onnx.server.app import Rules, make_app
from gpt2onnx.server.asked import finish_reason, usage
from gpt2onnx.server.failures import as_request_error
from gpt2onnx.server.served import Served, ServedModels
from gpt2onnx.serving.engine import Engine

# Requests in the engine for each of its rows: those that run, and those that come next.
DEPTH = 3
# Endpoints that write text, and so take parameters and a seed.
WRITING = ("/v1/completions", "/v1/chat/completions")
_LOG = logging.getLogger("gpt2onnx.batch")


@dataclass(frozen=True)
class Terms:
    """What a job says of all of its lines."""

    form: str = "json"  # of the lines: json or text
    parameters: Mapping[str, Any] = field(default_factory=dict)
    created: int = 0  # when the job began, in seconds
    name: str = "demo"  # the model's, in bodies and answers

    @property
    def seed(self) -> int:
        return int(self.parameters.get("seed", 0))


class Answerer:
    """Answers lines, many at once. Raises ParameterError where the job's parameters are wrong."""

    def __init__(self, engine: Engine, rows: int, terms: Terms) -> None:
        self._engine, self._terms = engine, terms
        self._app = make_app(ServedModels([Served(terms.name, engine)]), Rules())
        self._job = {n: v for n, v in terms.parameters.items() if n != "seed"}
        self._draws = engine.model.params(self._job).do_sample
        self._rows = rows
        self._slots = asyncio.Semaphore(DEPTH * rows)
        self._turn = asyncio.Lock()

    async def answer(self, lines: Iterable[Line], take: Callable[[Record], None]) -> None:
        """Answer lines, and have each record taken as it comes. Raises what `take` raises.

        Of several calls the first one's lines go first, and the next one's follow without a gap.
        """
        try:
            async with asyncio.TaskGroup() as tasks, self._turn:
                for each in in_order(self._read(lines, take)):
                    await self._slots.acquire()
                    tasks.create_task(self._one(each, take))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def _read(self, lines: Iterable[Line], take: Callable[[Record], None]) -> Iterator[Asked]:
        """What lines ask for; blank ones and those that are refused are done with."""
        for line in lines:
            try:
                asked = read(line, self._terms.form)
            except LineError as refused:
                take(error_line(line.number, refused.custom_id, refused.error))
                continue
            if asked:
                yield asked
            else:
                take(Record(line.number, Kind.BLANK))

    async def _one(self, asked: Asked, take: Callable[[Record], None]) -> None:
        try:
            record = await self._record(asked)
        finally:
            self._slots.release()
        take(record)

    async def _record(self, asked: Asked) -> Record:
        try:
            if asked.url is None:
                return answer_line(asked, 200, await self._written(asked))
            return answer_line(asked, *await self._asked(asked, asked.url))
        except RequestCancelledError:  # by the engine's end: it isn't answered
            raise
        except Exception as error:
            if not isinstance(error, Gpt2OnnxError):
                _LOG.error("line %d failed", asked.number, exc_info=error)
            return error_line(asked.number, asked.custom_id, as_request_error(error))

    async def _asked(self, asked: Asked, url: str) -> tuple[int, dict[str, Any]]:
        """The application's answer, but for what would differ from run to run."""
        body = dict(asked.body)
        if url in WRITING:
            body = merged(self._job, body)
            if _draws(body):
                body.setdefault("seed", asked.seed(self._terms.seed))
        status, answer = await in_process.post(self._app, url, msgspec.json.encode(body))
        if "created" in answer:
            answer["created"] = self._terms.created
        if "id" in answer:
            answer["id"] = f"{answer['id'].partition('-')[0]}-{asked.digest}"
        return status, answer

    async def _written(self, asked: Asked) -> dict[str, Any]:
        """What the engine writes after a prompt, by generate's parameters."""
        own = dict(asked.body)
        prompt = own.pop("prompt")
        if not _is_prompt(prompt):
            raise RequestError("prompt is no text and no token ids", param="prompt")
        given = merged(self._job, own)
        if self._engine.model.params(given).do_sample if own else self._draws:
            given.setdefault("seed", asked.seed(self._terms.seed))
        results = await self._engine.submit(prompt, **given)
        group: list[Generation] = results if isinstance(results, list) else [results]
        return {
            "id": f"cmpl-{asked.digest}",
            "object": "text_completion",
            "created": self._terms.created,
            "model": self._terms.name,
            "choices": [_choice(index, each) for index, each in enumerate(group)],
            "usage": usage([group]),
        }


def _is_prompt(given: object) -> bool:
    if isinstance(given, list):
        return all(isinstance(each, int) and not isinstance(each, bool) for each in given)
    return isinstance(given, str)


def _draws(body: Mapping[str, Any]) -> bool:
    """Whether the server draws for such a body: a seed has no effect where it doesn't."""
    if "do_sample" in body:
        return body["do_sample"] is True
    searches = _above(body.get("num_beams"), 1) or _above(body.get("penalty_alpha"), 0)
    return not searches and body.get("temperature") != 0


def _above(value: object, bound: float) -> bool:
    return isinstance(value, int | float) and value > bound


def _choice(index: int, written: Generation) -> dict[str, Any]:
    return {
        "index": index,
        "text": written.text,
        "logprobs": None,
        "finish_reason": finish_reason(written.finish_reason),
    }
