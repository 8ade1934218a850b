"""Server-sent events: frames of JSON as they come, then [DONE]; a fault is a frame, then the end.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.server.failures import as_request_error, error_object, error_response
from gpt2onnx.server.watching import watched
from gpt2onnx.serving.handle import Handle

_LOG = logging.getLogger("gpt2onnx.server")
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold frames back
]


class EventStream(Response):
    """Answers with objects as they come. What fails before the first has its own status."""

    def __init__(self, objects: AsyncGenerator[Any, None], handle: Handle) -> None:
        self._objects, self._handle = objects, handle
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with watched(receive, self._handle):
            try:
                first = await anext(self._objects)
            except Exception as error:
                await error_response(logged(error))(scope, receive, send)
                return
            try:
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await send(_body(frame(first)))
                await send(_body(await self._rest(send)))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                await self._objects.aclose()

    async def _rest(self, send: Send) -> bytes:
        """Send what comes: its last frame."""
        try:
            async for each in self._objects:
                await send(_body(frame(each)))
        except Exception as error:
            return frame(error_object(logged(error)))
        return b"data: [DONE]\n\n"


def logged(error: Exception) -> Any:
    """As a RequestError; a bug's traceback goes to the log."""
    if not isinstance(error, Gpt2OnnxError):
        _LOG.error("a request failed", exc_info=error)
    return as_request_error(error)


def frame(content: Any) -> bytes:
    """One event."""
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


def _body(content: bytes) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": True}
