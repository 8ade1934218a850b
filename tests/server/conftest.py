"""A server in a thread, on a free port of loopback, with the bundled model."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx import Engine, Model
from gpt2onnx.server import run
from gpt2onnx.server.app import Rules, make_app
from gpt2onnx.server.served import Served, ServedModels

OPEN = Rules()


class Running:
    """A server that runs, asked by hand."""

    def __init__(self, port: int, models: list[Served], server: run.Server) -> None:
        self.port, self.models, self.server = port, models, server
        self.url = f"http://127.0.0.1:{port}"

    @property
    def engine(self) -> Engine:
        return self.models[0].engine

    def ask(
        self, path: str, body: Any = None, method: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, the object or text that came, and its headers by their names in lower case."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if content is not None else {}
        connection.request(
            method or ("GET" if content is None else "POST"), path, content, given | (headers or {})
        )
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        names = {name.lower(): value for name, value in response.getheaders()}
        is_json = names.get("content-type") == "application/json"
        return response.status, json.loads(text) if is_json else text, names

    def frames(self, path: str, body: dict[str, Any]) -> list[Any]:
        """The objects of a stream, and its last word."""
        status, text, headers = self.ask(path, {**body, "stream": True})
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), text
        events = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
        return [json.loads(event) if event != "[DONE]" else event for event in events]


@contextmanager
def serving(models: dict[str, Model], rules: Rules = OPEN, **bounds: Any) -> Iterator[Running]:
    with ExitStack() as stack:
        served = [
            Served(name, stack.enter_context(Engine(model, **bounds)))
            for name, model in models.items()
        ]
        for each in served:
            stack.callback(each.close)
        listening = stack.enter_context(run.listen("127.0.0.1", 0))
        server = run.Server(make_app(ServedModels(served), rules), stack.close)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Running(listening.getsockname()[1], served, server)
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="session")
def model() -> Model:
    return gpt2onnx.load("demo", threads=1)


@pytest.fixture(scope="module")
def server(model: Model) -> Iterator[Running]:
    with serving({"demo": model}, max_rows=8) as running:
        yield running


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until something is so."""

    def wait(is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < end, "it never came to be"
            time.sleep(0.01)

    return wait
