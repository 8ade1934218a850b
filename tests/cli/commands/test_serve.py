"""gpt2onnx serve as a process: it starts, answers curl, and ends by signals."""

from __future__ import annotations

import builtins
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx import cli
from gpt2onnx.cli.commands import serve
from gpt2onnx.runtime.ort.kernels import OFF, VARIABLE

LONG = {"prompt": "import os\n", "temperature": 0, "eos_token_id": [], "max_tokens": 900}


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and its address."""
    command = [sys.executable, "-m", "gpt2onnx", "serve", "--port", "0", "--threads", "1"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        lines = iter(process.stderr.readline, "")
        yield process, next(m[0] for line in lines if (m := re.search(r"http://\S+", line)))
    finally:
        process.kill()
        process.communicate()


def test_it_says_where_each_model_runs_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, OFF)
    command = [sys.executable, "-m", "gpt2onnx", "serve", "--port", "0", "--provider", "cpu"]
    command += ["a=demo", "--draft", "demo-draft"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = takewhile(lambda line: "serving" not in line, process.stderr)
        told = [line for line in said if "exporting the bundled" not in line]
        process.kill()
    why = "cpu, as asked; not model.kernels.onnx: gpt2onnx-kernels is switched off"
    assert [line.partition(why)[0] for line in told] == ["gpt2onnx: a: ", "gpt2onnx: a's draft: "]


def curl(url: str, body: Any = None) -> Any:
    content = ["--json", json.dumps(body)] if body is not None else []
    ran = subprocess.run(["curl", "-s", *content, url], stdout=subprocess.PIPE, check=True)
    return json.loads(ran.stdout)


def test_curl_and_the_end() -> None:
    with serving() as (process, url):
        assert curl(f"{url}/ready") == {"status": "ready"}
        answer = curl(f"{url}/v1/completions", {"model": "demo", "prompt": "def ", "seed": 1})
        assert answer["usage"]["completion_tokens"] <= 16
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def begin(url: str, body: dict[str, Any]) -> socket.socket:
    """Ask for a stream, and wait for its beginning."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    content = json.dumps({**body, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    assert b"200 OK" in connection.recv(200)
    return connection


def rest(connection: socket.socket) -> str:
    return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def test_running_requests_finish_at_the_end() -> None:
    with serving() as (process, url), begin(url, {**LONG, "max_tokens": 300}) as connection:
        process.send_signal(signal.SIGTERM)
        assert rest(connection).rstrip("\r\n0").endswith("data: [DONE]")
        assert process.wait(30) == 0


def test_those_that_take_too_long_are_told() -> None:
    with serving("--grace", "0") as (process, url), begin(url, LONG) as connection:
        process.send_signal(signal.SIGTERM)
        last = [line for line in rest(connection).splitlines() if line.startswith("data: ")][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert process.wait(30) == 1


def test_a_second_signal_ends_it_now() -> None:
    with serving() as (process, url), begin(url, {**LONG, "n": 8, "temperature": 1}) as connection:
        process.send_signal(signal.SIGINT)
        while curl(f"{url}/health") and "error" not in curl(f"{url}/ready"):
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        connection.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "99999"], "--port 99999: expected 0 to 65535"),
        (["--grace", "-1"], "--grace -1.0: expected seconds"),
        (["--max-requests-per-key", "3"], "has no effect without"),
        (["--api-key-file", "/nowhere/keys"], "/nowhere/keys"),
        (["a=demo", "a=demo-draft"], "two models are named 'a'"),
        (["=demo"], "expected DIR or NAME=DIR"),
        (["--draft", "other=demo-draft"], "NAME being one of demo"),
        (["a=demo", "b=demo", "--draft", "demo-draft"], "expected NAME=DIR"),
        (["--draft", "demo-draft", "--draft", "demo=demo-draft"], "two drafts are given"),
        (["--host", "256.0.0.1"], "can't listen on 256.0.0.1"),
    ],
)
def test_what_it_refuses(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--port", "0", *options]) == 2
    assert message in capsys.readouterr().err


def test_several_models_share_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "default_threads", lambda: 8)
    assert [serve._share(None, models) for models in (1, 2, 3, 20)] == [None, 4, 2, 1]
    assert serve._share(3, 2) == 3


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.main(["serve", "--port", port]) == 2
    assert f"can't listen on 127.0.0.1, port {port}" in capsys.readouterr().err


def test_without_its_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **more: Any) -> Any:
        if name.partition(".")[0] in ("starlette", "uvicorn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **more)

    for name in [n for n in sys.modules if n.startswith("gpt2onnx.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", missing)
    assert cli.main(["serve"]) == 2
    assert "pip install 'gpt2onnx[server]'" in capsys.readouterr().err


def test_beyond_loopback_without_a_key_it_warns(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gpt2onnx", "serve", "--host", "0.0.0.0", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        assert "can be reached from other machines" in process.stderr.readline()
    finally:
        process.kill()
        process.communicate()
