"""Requests to an ASGI application in this process, without a socket.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message

_LOG = logging.getLogger("gpt2onnx.batch")


async def post(app: ASGIApp, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """What an application answers to a POST of JSON: the status and the object."""
    request = _Request(body)
    try:
        await app(_scope(path, len(body)), request.receive, request.send)
    except Exception:  # a bug's, which the application has answered with its own words
        if not request.status:
            raise
        _LOG.exception("a request to %s failed", path)
    return request.status, msgspec.json.decode(bytes(request.answer))


class _Request:
    """A request's body, and the answer as it comes."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.status, self.answer = 0, bytearray()

    async def receive(self) -> Message:
        if self._body is None:  # nobody leaves
            await asyncio.Event().wait()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.answer += message.get("body", b"")


def _scope(path: str, length: int) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % length),
        ],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
    }
