"""An HTTP client that costs little: it writes requests, and notes when each piece came.

Nothing is decoded while the load runs. Each request has a connection of its own. Knows HTTP and
server-sent events; knows no server.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httptools


class Address(NamedTuple):
    """Where a server listens, and the key to show it."""

    port: int
    host: str = "127.0.0.1"
    key: str | None = None


class Event(NamedTuple):
    """A frame of a stream, and when it came."""

    at: float
    content: Any


@dataclass
class Exchange:
    """A request and what came of it. Times are time.perf_counter's."""

    sent: float = 0.0
    ended: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    was_left: bool = False  # by us, before its end
    error: str | None = None  # of the connection

    @property
    def seconds(self) -> float:
        return self.ended - self.sent

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Event]:
        """A stream's whole frames, each with the time of its last byte."""
        found, begun = [], b""
        for at, piece in self.pieces:
            *whole, begun = (begun + piece).split(b"\n\n")
            found += [Event(at, content) for each in whole if (content := _data(each)) is not None]
        return found


def _data(event: bytes) -> Any:
    """An event's object; None for what has none: the last word, or a comment."""
    text = event.strip()
    if not text.startswith(b"data:") or text == b"data: [DONE]":
        return None
    return json.loads(text[len(b"data:") :])


def request_bytes(address: Address, path: str, body: Any = None) -> bytes:
    """A request as it is sent, GET where it has no body."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {address.host}"]
    lines += ["Connection: close"]
    if address.key:
        lines.append(f"Authorization: Bearer {address.key}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


class _Connection(asyncio.Protocol):
    """One exchange, from its first byte to its last."""

    def __init__(self, content: bytes, over: asyncio.Future[None]) -> None:
        self.exchange, self._content, self._over = Exchange(), content, over
        self._parser = httptools.HttpResponseParser(self)
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.exchange.sent = time.perf_counter()
        self._transport.write(self._content)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.exchange.error = str(error)
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._over.done():
            self.exchange.error = str(error or "the server closed the connection")
            self._end()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.exchange.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.exchange.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.exchange.pieces.append((time.perf_counter(), body))

    def on_message_complete(self) -> None:
        self._end()

    def leave(self) -> None:
        """Close the connection, whatever still comes."""
        self.exchange.was_left = not self._over.done()
        self._end()

    def _end(self) -> None:
        if not self._over.done():
            self.exchange.ended = time.perf_counter()
            self._over.set_result(None)
        self._transport.close()


async def ask(
    address: Address, path: str, body: Any = None, leave_after: float | None = None
) -> Exchange:
    """A request to its end, or until the client leaves. What fails is the exchange's error."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    content = request_bytes(address, path, body)
    began = time.perf_counter()
    try:
        _, connection = await loop.create_connection(
            lambda: _Connection(content, over), address.host, address.port
        )
    except OSError as error:
        return Exchange(began, time.perf_counter(), error=str(error))
    exchange = connection.exchange
    exchange.sent = began  # a server that lets clients wait for a connection is slow, too
    if leave_after is not None:
        loop.call_later(leave_after, connection.leave)
    await over
    return exchange


class Load(NamedTuple):
    """What came of requests that were sent at their times."""

    exchanges: list[Exchange]
    seconds: float  # from the first arrival to the last end
    client_share: float  # of a core, that the client took


Asking = Callable[[int], Any]


async def at_times(times: list[float], send: Asking) -> Load:
    """Have `send(n)` make the n-th exchange at its time, in seconds from now."""
    loop = asyncio.get_running_loop()
    began, processor = time.perf_counter(), time.process_time()

    async def one(number: int) -> Exchange:
        exchange: Exchange = await send(number)
        return exchange

    tasks: list[asyncio.Task[Exchange]] = []
    for number, at in enumerate(times):
        wait = began + at - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(loop.create_task(one(number)))
    exchanges = list(await asyncio.gather(*tasks))
    seconds = time.perf_counter() - began
    return Load(exchanges, seconds, (time.process_time() - processor) / seconds)
