"""Many requests of a server in its own process, of which 30 % leave: nothing is left of any."""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx.server.constraints import MOST_TRIALS
from gpt2onnx.server.run import MOST_THREADS
from tests.checkpoints import make_checkpoint

CLIENTS = 16
MOST_GROWN = 20_000_000


class Server:
    """A process that serves a small model."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "gpt2onnx", "serve", f"small={folder}", "--port", "0"]
        command += ["--threads", "1", "--max-rows", "8"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        lines = iter(self._process.stderr.readline, "")
        found = next(m for line in lines if (m := re.search(r"http://127.0.0.1:(\d+)", line)))
        self.port = int(found[1])

    @property
    def anonymous_memory(self) -> int:
        """Bytes that the process holds beside files."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1000

    @property
    def threads(self) -> int:
        return len(list(Path(f"/proc/{self._process.pid}/task").iterdir()))

    def count(self, name: str) -> float:
        """A metric."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(rf"^gpt2onnx:{name}\{{.*\}} (\S+)$", text, re.MULTILINE)
        assert found
        return float(found[1])

    def close(self) -> str:
        """End it: what it said since it listens."""
        self._process.terminate()
        return self._process.communicate(timeout=60)[1]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "model"
    gpt2onnx.export(make_checkpoint(tmp_path / "checkpoint"), folder, verify=False)
    server = Server(folder)
    yield server
    assert server.close() == ""  # no traceback, above all


def body(rng: random.Random) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [
        {},
        {"n": 2, "logprobs": 3},
        {"num_beams": 3, "temperature": 0},
        {"stream": True},
        {"stream": True, "n": 2, "logprobs": 1},
        {"echo": True, "max_tokens": 0, "logprobs": 1, "temperature": 0},
        {"regex": "[a-z]{1,9}"},
    ]
    own = {"prompt": "x" * rng.randint(1, 20), "max_tokens": rng.randint(1, 30), "seed": 1}
    return {**own, **rng.choice(kinds)}


def ask(server: Server, rng: random.Random) -> bool:
    """One request, which is left in 30 % of all cases; whether it wasn't."""
    content = json.dumps(body(rng)).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    head = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    stays = rng.random() >= 0.3
    if stays:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:500]
    else:
        time.sleep(rng.random() * 0.02)
    connection.close()
    return stays


def ask_often(server: Server, count: int) -> int:
    """That many requests of several clients; how many got their answers."""

    def client(number: int) -> int:
        rng = random.Random(number)
        return sum(ask(server, rng) for _ in range(count // CLIENTS))

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(client, range(CLIENTS)))


@pytest.mark.parametrize(
    "count", [240, pytest.param(10_000, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_nothing_is_left_of_many(server: Server, count: int) -> None:
    threads = server.threads
    answered = ask_often(server, max(count // 5, CLIENTS))  # warm
    before = server.anonymous_memory
    answered += ask_often(server, count)
    end = time.monotonic() + 30
    names = ("num_requests_running", "num_requests_waiting", "num_requests_frozen", "cache_rows")
    while any(server.count(name) for name in names):
        assert time.monotonic() < end
    over = {name: server.count(f"requests_{name}_total") for name in ("finished", "cancelled")}
    assert over["finished"] >= answered
    assert sum(over.values()) == server.count("requests_accepted_total")
    assert server.count("requests_failed_total") == 0
    assert server.threads <= threads + MOST_THREADS + MOST_TRIALS
    if count > 1000:
        assert server.anonymous_memory - before < MOST_GROWN
