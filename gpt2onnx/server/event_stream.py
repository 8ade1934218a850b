"""Server-sent events: frames of JSON as they come, then [DONE]; a fault is a frame, then the end.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
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

# Seconds after which a client that doesn't read is dropped.
PATIENCE = 60.0
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
            start = {"type": "http.response.start", "status": 200, "headers": _HEADERS}
            try:
                await _send(send, start)
                await _send(send, _body(frame(first)))
                await self._send_rest(send)
                await _send(send, {"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                await self._objects.aclose()

    async def _send_rest(self, send: Send) -> None:
        try:
            async for each in self._objects:
                await _send(send, _body(frame(each)))
        except (TimeoutError, OSError):  # the client's
            raise
        except Exception as error:
            await _send(send, _body(frame(error_object(logged(error)))))
        else:
            await _send(send, _body(b"data: [DONE]\n\n"))


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


async def _send(send: Send, message: Message) -> None:
    async with asyncio.timeout(PATIENCE):
        await send(message)
