"""A model hub on 127.0.0.1 that knows as much of the Hugging Face hub's protocol as a download needs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v1.0", COMMIT)


@dataclass
class FakeHub:
    """Models by id, each a dictionary of files. `requests` are the paths asked for, with the method."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    broken: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)
    endpoint: str = ""

    def downloads(self) -> list[str]:
        return [path.rpartition("/")[2] for method, path in self.requests if method == "GET"]

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """The status, headers and body for a path like /owner/name/resolve/main/config.json."""
        if self.broken:
            return 503, {}, b""
        repo_id, _, rest = unquote(path).strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repo_id in self.gated:
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        if repo_id not in self.models:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in REVISIONS:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        headers = {"X-Repo-Commit": COMMIT}
        if name not in self.models[repo_id]:
            return 404, headers | {"X-Error-Code": "EntryNotFound"}, b""
        body = self.models[repo_id][name]
        return 200, headers | {"ETag": f'"{hashlib.sha256(body).hexdigest()}"'}, body


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
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
