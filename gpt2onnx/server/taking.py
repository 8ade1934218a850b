"""Taking a request: its body is read, then it is understood in a thread, and an engine has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from anyio import to_thread
from starlette.requests import Request

from gpt2onnx.server.asked import Terms
from gpt2onnx.server.body import read_body
from gpt2onnx.server.served import ServedModels

Taken = TypeVar("Taken")


async def taken(request: Request, take: Callable[[ServedModels, bytes, Terms], Taken]) -> Taken:
    """What `take` makes of a request, away from the event loop. Raises what that raises.

    Where no engine has a place it raises QueueFullError, and nothing was done for the request.
    """
    body = await read_body(request)
    state = request.app.state
    state.models.require_place()
    terms = Terms(request.scope.get("gpt2onnx.tenant"), state.queue_timeout)
    return await to_thread.run_sync(partial(take, state.models, body, terms))
