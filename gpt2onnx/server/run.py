"""Runs the application on a socket until a signal ends it, and drains it then.

The first SIGTERM or SIGINT has it take no more requests; those that run have a while to finish. A
second one ends it at once.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from anyio import to_thread

from gpt2onnx.errors import ServerError
from gpt2onnx.server.connection import Connection
from gpt2onnx.server.gate import Gate

# Seconds that running requests have to finish, and error frames to be sent.
GRACE = 30.0
LAST_WORDS = 2.0
# Whatever ended before its end.
CUT_SHORT = 1
# What is beside the event loop is Python's work, which more threads do no faster, and malloc gives
# each of them memory of its own to keep.
MOST_THREADS = 6
# Seconds that a thread of these, or the engine's, may keep the interpreter's lock from the event
# loop, which takes it some ten times for an answer. Python's own 5 ms are for threads that compute.
SWITCH_INTERVAL = 0.0005


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ServerError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ServerError(f"can't listen on {host}, port {port}: {why}") from None


def run(gate: Gate, listening: socket.socket, close: Callable[[], None], grace: float) -> int:
    """Serve until a signal comes. `close` ends whatever still runs then.

    Gives 0 where all requests finished, 1 where some were cut short, and 128 and the signal's
    number where a second one came.
    """
    server = Server(gate, close, grace)
    server.run(sockets=[listening])
    return server.status


class Server(uvicorn.Server):
    """uvicorn's, with signals of our own."""

    def __init__(self, gate: Gate, close: Callable[[], None], grace: float = GRACE) -> None:
        config = uvicorn.Config(
            gate,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
        )
        super().__init__(config)
        self._gate, self._close, self._grace = gate, close, grace
        self._draining: asyncio.Task[None] | None = None
        self.status = 0

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        to_thread.current_default_thread_limiter().total_tokens = MOST_THREADS
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            await super().serve(sockets)
        finally:
            sys.setswitchinterval(before)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._take, each)
        try:
            yield
        finally:
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(each)

    def _take(self, number: signal.Signals) -> None:
        self._gate.is_draining = True
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        else:
            self.status = 128 + number
            self.should_exit = self.force_exit = True

    async def _drain(self) -> None:
        """Wait for those inside, and tell whom that takes too long that it's over."""
        if not await self._emptied(self._grace):
            self.status = CUT_SHORT
            await asyncio.to_thread(self._close)
            await self._emptied(LAST_WORDS)
        self.should_exit = True

    async def _emptied(self, seconds: float) -> bool:
        end = asyncio.get_running_loop().time() + seconds
        while self._gate.inside and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        return not self._gate.inside


def address(listening: socket.socket) -> str:
    """Where it listens, as a browser takes it."""
    found: Any = listening.getsockname()
    host = f"[{found[0]}]" if ":" in found[0] else found[0]
    return f"http://{host}:{found[1]}"
