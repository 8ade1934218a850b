"""A request's body: bounded before it is read, JSON, and an object."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from gpt2onnx.errors import RequestCancelledError, RequestError

MOST_BYTES = 4 * 2**20
# More is read and thrown away, so that a client that is still sending gets its answer; up to this.
MOST_DISCARDED = 8 * MOST_BYTES
# Seconds that a client has to send it.
PATIENCE = 60.0


async def read_body(request: Request) -> bytes:
    """The whole body. Raises RequestError (408, 413, 415), RequestCancelledError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(
            f"Content-Type is {kind or 'missing'}: expected application/json",
            415,
            code="unsupported_media_type",
        )
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > MOST_DISCARDED:
        raise _too_large()
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(PATIENCE):
            async for piece in request.stream():
                size += len(piece)
                if size <= MOST_BYTES:
                    body += piece
                elif size > MOST_DISCARDED:
                    raise _too_large()
    except ClientDisconnect:
        raise RequestCancelledError("the client left") from None
    except TimeoutError:
        raise RequestError(f"the body didn't come within {PATIENCE:.0f} seconds", 408) from None
    if size > MOST_BYTES:
        raise _too_large()
    return bytes(body)


def json_object(body: bytes) -> dict[str, Any]:
    """The body as an object. Raises RequestError."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is no JSON: {error}", code="invalid_json") from None
    if not isinstance(found, dict):
        raise RequestError("the body is no JSON object", code="invalid_json")
    return found


def _too_large() -> RequestError:
    return RequestError(
        f"the body is larger than {MOST_BYTES:,} bytes", 413, code="request_too_large"
    )
