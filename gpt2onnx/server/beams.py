"""POST /v1/beams: a beam search as it goes, an event for each step, and at the end its answer.

The body is that of /v1/completions, and so is the last event. One before has the step's branches
below their parents: the tree of hypotheses, level by level.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from anyio import from_thread, to_thread

from gpt2onnx.runtime.decoder.protocol import Logits
from gpt2onnx.samplers import Branch, GenerationParams
from gpt2onnx.samplers.beam.tree import BeamTree
from gpt2onnx.server.asked import Asked, Options, Prepared, Terms
from gpt2onnx.server.completions import COMPLETIONS, prepare, whole
from gpt2onnx.server.endpoint import EngineEndpoint
from gpt2onnx.server.fields import flag, refusal
from gpt2onnx.server.served import Served
from gpt2onnx.server.token_texts import TokenTexts
from gpt2onnx.serving.handle import Handle

_STREAM = flag("Send the steps as they come, as server-sent events.", default=True)
_FORM = replace(COMPLETIONS.form, fields={**COMPLETIONS.form.fields, "stream": _STREAM})


class _Steps:
    """The steps of searches, on their way from the engine's thread to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[tuple[int, Sequence[Branch]] | None] = asyncio.Queue()

    def observe(self, index: int, logits: Logits, branches: Sequence[Branch]) -> None:
        """Take a step of a prompt's search; for the engine."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (index, branches))

    async def until_end(self, handle: Handle) -> AsyncGenerator[tuple[int, Sequence[Branch]], None]:
        """Each step as it comes: a prompt's number, and what came of the prompt's hypotheses."""
        ending = asyncio.create_task(self._end(handle))
        try:
            while (step := await self._queue.get()) is not None:
                yield step
        finally:
            ending.cancel()

    async def _end(self, handle: Handle) -> None:
        with suppress(Exception):  # whoever awaits the handle is told
            await handle
        self._queue.put_nowait(None)


@dataclass(frozen=True)
class _Search:
    """A search that runs, and its steps."""

    asked: Asked
    steps: _Steps

    @property
    def options(self) -> Options:
        return self.asked.options

    @property
    def handle(self) -> Handle:
        return self.asked.handle


@dataclass(frozen=True)
class _ToSearch:
    """A search, before its engine takes it."""

    prepared: Prepared

    @property
    def served(self) -> Served:
        return self.prepared.served

    @property
    def params(self) -> GenerationParams:
        return self.prepared.params

    def submit(self, terms: Terms) -> _Search:
        """For a thread of the event loop's."""
        steps = _Steps(from_thread.run_sync(asyncio.get_running_loop))
        observe = steps.observe if self.prepared.options.stream else None
        return _Search(self.prepared.submit(terms, observe), steps)


def _prepare(served: Served, fields: dict[str, Any]) -> _ToSearch:
    prepared = prepare(served, fields)
    if prepared.params.num_beams == 1:
        raise refusal("num_beams", "is 1 or missing: expected at least 2 here")
    return _ToSearch(prepared)


def _whole(search: _Search, results: Any) -> dict[str, Any]:
    return whole(search.asked, results)


async def _objects(search: _Search) -> AsyncGenerator[Mapping[str, Any], None]:
    asked = search.asked
    head = asked.head("beam", "beam_step")
    levels: dict[int, int] = defaultdict(int)
    trees: dict[int, BeamTree] = defaultdict(BeamTree)
    async with aclosing(search.steps.until_end(asked.handle)) as branched:
        async for index, branches in branched:
            levels[index] += 1
            level = trees[index].grow(branches)
            nodes = [_node(asked.served.tokens, *each) for each in level]
            yield {**head, "index": index, "step": levels[index], "branches": nodes}
    results = await asked.handle
    yield await to_thread.run_sync(partial(whole, asked, results))


def _node(tokens: TokenTexts, branch: Branch, parent: int) -> dict[str, Any]:
    """A hypothesis with one token more; `parent` is its place among the step before's branches.

    `logprob` is the token's, the model's own; `score` the whole hypothesis' sum, after penalties.
    """
    return {
        "token_id": branch.token,
        "token": tokens.name(branch.token),
        "logprob": float(branch.hypothesis.logprobs[-1]),
        "score": float(branch.hypothesis.score),
        "parent": parent,
        "fate": branch.fate,
    }


BEAMS = EngineEndpoint(
    "/v1/beams",
    "Texts that beams find, and each step of the search.",
    _FORM,
    COMPLETIONS.answer_schema,
    _prepare,
    _whole,
    _objects,
)
