"""A model hub on 127.0.0.1, with as much of the Hugging Face hub's protocol as downloads need."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v1.0", COMMIT)


@dataclass
class FakeHub:
    """Models by id, each a dictionary of files. `requests` are (method, path) in their order.

    A hostile hub gives other `headers` with its files, and `more_names` in its listings.
    """

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    broken: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    more_names: list[Any] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    endpoint: str = ""

    def downloads(self) -> list[str]:
        """The names of the files that were sent."""
        gets = [path for method, path in self.requests if method == "GET"]
        return [path.rpartition("/")[2] for path in gets if "/resolve/" in path]

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """The status, headers and body for `/api/models/ID/…` or `/ID/resolve/REVISION/NAME`."""
        if self.broken:
            return 503, {}, b""
        about, separator, rest = unquote(path).strip("/").partition("/resolve/")
        if not separator:
            about, _, rest = about.partition("/revision/")
        repo_id = about.removeprefix("api/models/")
        revision, _, name = rest.partition("/")
        if repo_id not in self.models:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if (revision or "main") not in REVISIONS:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if about != repo_id:
            return 200, {"Content-Type": "application/json"}, self.about(repo_id)
        if repo_id in self.gated:
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        body = self.models[repo_id][name]
        etag = hashlib.sha256(body).hexdigest()
        return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'} | self.headers, body

    def about(self, repo_id: str) -> bytes:
        siblings = [{"rfilename": name} for name in [*self.models[repo_id], *self.more_names]]
        return json.dumps({"id": repo_id, "sha": COMMIT, "siblings": siblings}).encode()


@contextmanager
def serve() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.reply()

        def do_GET(self) -> None:
            self.wfile.write(self.reply())

        def reply(self) -> bytes:
            hub.requests.append((self.command, self.path))
            status, headers, body = hub.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return body

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
