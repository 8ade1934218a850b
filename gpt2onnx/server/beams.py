"""POST /v1/beams: a beam search as it goes, an event for each step, and at the end its answer.

The body is that of /v1/completions, and so is the last event. One before has the step's branches
below their parents: the tree of hypotheses, level by level.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from gpt2onnx.runtime.decoder.protocol import Logits
from gpt2onnx.samplers import Branch
from gpt2onnx.samplers.beam.tree import BeamTree
from gpt2onnx.server.asked import Asked, Terms
from gpt2onnx.server.body import read_body
from gpt2onnx.server.completions import take, whole
from gpt2onnx.server.event_stream import EventStream
from gpt2onnx.server.token_texts import TokenTexts
from gpt2onnx.serving.handle import Handle


async def beams(request: Request) -> Response:
    """Streams the steps of a search for each prompt."""
    body = await read_body(request)
    state = request.app.state
    terms = Terms(request.scope.get("gpt2onnx.tenant"), state.queue_timeout)
    steps = _Steps(asyncio.get_running_loop())
    asked = await to_thread.run_sync(partial(take, state.models, body, terms, steps.observe))
    return EventStream(_objects(asked, steps), asked.handle)


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


async def _objects(asked: Asked, steps: _Steps) -> AsyncGenerator[Mapping[str, Any], None]:
    head = asked.head("beam", "beam_step")
    levels: dict[int, int] = defaultdict(int)
    trees: dict[int, BeamTree] = defaultdict(BeamTree)
    async with aclosing(steps.until_end(asked.handle)) as branched:
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
