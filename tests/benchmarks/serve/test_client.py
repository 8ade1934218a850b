"""The load client: frames and their times, however the bytes come; what fails is told."""

from __future__ import annotations

import asyncio
import socket

import pytest

from benchmarks.serve.client import Address, Exchange, ask, at_times

FRAMES = b': hello\n\ndata: {"a": 1}\n\ndata: {"b": "\\n\\n"}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_frames_come_at_their_last_byte(size: int) -> None:
    pieces = [(float(at), FRAMES[at : at + size]) for at in range(0, len(FRAMES), size)]
    events = Exchange(pieces=pieces).events()
    assert [event.content for event in events] == [{"a": 1}, {"b": "\n\n"}]
    ends = [FRAMES.index(b"1}\n\n") + 3, FRAMES.index(b'n"}\n\n') + 4]
    assert [event.at for event in events] == [end // size * size for end in ends]


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What a request is answered here: its path says what."""
    path = (await reader.readuntil(b"\r\n")).split()[1]
    if path == b"/whole":
        writer.write(b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}")
    if path == b"/part":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")
    if path == b"/none":
        await reader.read()
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def _with_server(*paths: str) -> list[Exchange]:
    over = asyncio.Semaphore(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _answer(reader, writer)
        over.release()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = Address(server.sockets[0].getsockname()[1])
        found = [
            await ask(address, path, leave_after=0.05 if path == "/none" else None)
            for path in paths
        ]
        for _ in paths:
            await over.acquire()
        return found


def test_what_comes_of_a_request() -> None:
    whole, part, none = asyncio.run(_with_server("/whole", "/part", "/none"))
    assert (whole.status, whole.headers["retry-after"], whole.json()) == (503, "7", {})
    assert whole.error is None
    assert part.error is not None
    assert (none.was_left, none.error, none.pieces) == (True, None, [])


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        found = asyncio.run(ask(Address(unused.getsockname()[1]), "/"))
    assert found.error


def test_requests_go_at_their_times() -> None:
    async def send(number: int) -> Exchange:
        return Exchange(status=number)

    found = asyncio.run(at_times([0.0, 0.02, 0.02], send))
    assert [each.status for each in found.exchanges] == [0, 1, 2]
    assert found.seconds >= 0.02
