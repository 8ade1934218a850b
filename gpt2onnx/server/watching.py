"""A client that leaves: its request is cancelled, wherever it stands.

Starlette may leave a generator unclosed; so whoever answers watches the connection itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from gpt2onnx.serving.handle import Handle


@asynccontextmanager
async def watched(receive: Receive, handle: Handle) -> AsyncIterator[None]:
    """Within the block the handle is cancelled when the client leaves, and at its end in any case.

    The body must have been read before.
    """
    watcher = asyncio.create_task(_cancel_when_gone(receive, handle))
    try:
        yield
    finally:
        watcher.cancel()
        handle.cancel()


async def _cancel_when_gone(receive: Receive, handle: Handle) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    handle.cancel()
