"""Clients that leave, a full queue, the end: rows are free, and nobody else is touched."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gpt2onnx import Model
from gpt2onnx.server import body
from gpt2onnx.server import connection as connections
from gpt2onnx.server.app import Rules
from tests.server.conftest import Running, serving

PATH = "/v1/completions"
LONG = {"prompt": "import os\n", "temperature": 0, "max_tokens": 200, "eos_token_id": []}
Eventually = Callable[[Callable[[], bool]], None]


def begin(
    server: Running, body: dict[str, Any], buffer: int = 0, path: str = PATH
) -> socket.socket:
    """Ask, and leave the answer unread; `buffer` bytes of it come all the same."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    connection = socket.socket()
    connection.settimeout(30)
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


@pytest.mark.parametrize(
    "fields", [{}, {"stream": True}, {"n": 3, "temperature": 1}, {"num_beams": 3}]
)
def test_a_client_that_leaves_while_it_is_written_for(
    server: Running, model: Model, fields: dict[str, Any], eventually: Eventually, silent: None
) -> None:
    before = server.engine.stats()
    body: dict[str, Any] = {**LONG, "max_tokens": 900}
    kept: list[Any] = []
    stays = threading.Thread(target=lambda: kept.append(server.ask(PATH, body)))
    stays.start()
    eventually(lambda: server.engine.stats().running == 1)
    leaving = begin(server, {**body, **fields})
    eventually(lambda: server.engine.stats().running == 2)
    leaving.close()
    eventually(lambda: server.engine.stats().cancelled == before.cancelled + 1)
    stays.join(60)
    expected = model.generate("import os\n", max_new_tokens=900, eos_token_id=[]).text
    assert kept[0][1]["choices"][0]["text"] == expected
    assert server.engine.stats().rows == 0


@pytest.fixture
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged, no traceback above all."""
    yield
    assert not caplog.records


def test_a_stream_that_nobody_reads_is_dropped(
    server: Running, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, silent: None
) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.2)
    before = server.engine.stats().cancelled
    body = {**LONG, "temperature": 1, "n": 8, "max_tokens": 900, "logprobs": 20, "stream": True}
    connection = begin(server, body, buffer=2048)
    eventually(lambda: server.engine.stats().cancelled == before + 1)
    assert server.engine.stats().rows == 0
    eventually(lambda: not server.server.server_state.connections)
    connection.close()


def test_a_whole_answer_that_nobody_reads_is_dropped(
    server: Running, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, silent: None
) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.2)
    eventually(lambda: not server.server.server_state.connections)
    body = {"prompt": "x " * 600_000, "return_token_strs": True}  # more than sockets hold
    connection = begin(server, body, buffer=2048, path="/tokenize")
    eventually(lambda: bool(server.server.server_state.connections))
    eventually(lambda: not server.server.server_state.connections)
    connection.close()


def test_who_reads_slowly_gets_all(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.2)
    connection = begin(server, {"prompt": "x " * 100_000}, buffer=2048, path="/tokenize")
    found = b""
    while not found.endswith(b"}"):
        found += connection.recv(65536)
        time.sleep(0.002)
    connection.close()
    assert json.loads(found.partition(b"\r\n\r\n")[2])["count"] == 100_001


def test_a_body_that_doesnt_come(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "PATIENCE", 0.1)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_leaving_with_half_a_body(server: Running, eventually: Eventually, silent: None) -> None:
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    eventually(lambda: bool(server.server.server_state.tasks))
    connection.close()
    eventually(lambda: not server.server.server_state.tasks)


def test_a_full_queue_and_those_who_wait(model: Model, eventually: Eventually) -> None:
    rules = Rules(queue_timeout=0.1)
    with serving({"demo": model}, rules, max_rows=1, max_waiting=1) as server:
        running = begin(server, {**LONG, "max_tokens": 900})
        eventually(lambda: server.engine.stats().running == 1)
        late: list[Any] = []
        body = {**LONG, "stream": True}
        waiting = threading.Thread(target=lambda: late.append(server.ask(PATH, body)))
        waiting.start()
        eventually(lambda: server.engine.stats().waiting == 1)
        status, answer, headers = server.ask(PATH, LONG)
        assert (status, answer["error"]["code"]) == (503, "queue_full")
        assert int(headers["retry-after"]) >= 1
        waiting.join(30)
        status, answer, headers = late[0]
        assert (status, answer["error"]["code"]) == (503, "queue_timeout")
        queued = begin(server, LONG)
        eventually(lambda: server.engine.stats().waiting == 1)
        queued.close()
        eventually(lambda: server.engine.stats().waiting == 0)
        running.close()
        eventually(lambda: server.engine.stats().rows == 0)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/score"])
def test_a_full_queue_refuses_before_anything_is_understood(model: Model, path: str) -> None:
    with serving({"demo": model}, max_waiting=0) as server:
        status, answer, headers = server.ask(path, {"no such field": 1})
        assert (status, answer["error"]["code"]) == (503, "queue_full")
        assert int(headers["retry-after"]) >= 1
        assert server.ask("/tokenize", {"prompt": "def"})[0] == 200


def test_a_fault_in_a_stream_is_a_frame(model: Model, eventually: Eventually) -> None:
    with serving({"demo": model}, max_rows=2) as server:
        connection = begin(server, {**LONG, "max_tokens": 900, "stream": True})
        begun = connection.recv(1000)
        assert b"200 OK" in begun
        server.engine.close()
        rest = begun
        while not rest.endswith(b"0\r\n\r\n"):
            rest += connection.recv(65536)
        connection.close()
        events = [line for line in rest.decode().splitlines() if line.startswith("data: ")]
        error = json.loads(events[-1].removeprefix("data: "))["error"]
        assert (error["code"], error["type"]) == ("shutting_down", "server_error")
        assert server.ask("/health")[0] == 200
        assert server.ask(PATH, LONG)[0] == 503


def test_draining(model: Model, eventually: Eventually) -> None:
    with serving({"demo": model}, max_rows=2) as server:
        assert server.ask("/ready")[:2] == (200, {"status": "ready"})
        gate: Any = server.server.config.app
        gate.is_draining = True
        assert server.ask("/ready")[0] == 503
        assert server.ask("/health")[0] == 200
        status, answer, headers = server.ask(PATH, LONG)
        assert (status, answer["error"]["code"]) == (503, "shutting_down")
        assert "retry-after" in headers
        assert gate.inside == 0


def test_health_while_it_is_busy(server: Running) -> None:
    """Tokenizing and compiling leave the event loop free."""
    schema = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(300)}}
    body = {"prompt": "x " * 900, "json_schema": schema, "max_tokens": 2, "seed": 1}
    threads = [threading.Thread(target=server.ask, args=(PATH, body)) for _ in range(4)]
    for thread in threads:
        thread.start()
    answered = 0
    while any(thread.is_alive() for thread in threads):
        answered += server.ask("/health")[0] == 200
        time.sleep(0.005)
    assert answered
