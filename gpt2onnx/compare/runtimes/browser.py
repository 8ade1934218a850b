"""A job in headless Chromium: a page is served to it, and posts what comes of it.

Served from this machine to itself: the programs, node_modules, the model folder, and the job.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

from gpt2onnx.compare.runtimes.job import Job, UnavailableError
from gpt2onnx.compare.runtimes.places import browser

HEADLESS = (
    *("--headless", "--no-sandbox", "--disable-background-networking", "--no-first-run"),
    *("--disable-dev-shm-usage", "--enable-unsafe-webgpu", "--enable-unsafe-swiftshader"),
)
Folders: TypeAlias = dict[str, Path]  # by the path's beginning
Results: TypeAlias = "queue.Queue[dict[str, Any]]"
# Several threads of WebAssembly want a page that is isolated from others.
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
# Linux's own numbers of a process, and the words by which Chromium starts one that runs a page.
PROCESSES, RENDERER = Path("/proc"), "--type=renderer"


class _Server(SimpleHTTPRequestHandler):
    """Folders under names, and answers into a queue."""

    def __init__(self, *args: Any, job: Job, folders: Folders, results: Results) -> None:
        self.job, self.folders, self.results = job, folders, results
        super().__init__(*args, directory="")

    def guess_type(self, path: Any) -> str:
        """Python before 3.12 doesn't know .mjs."""
        return "text/javascript" if str(path).endswith(".mjs") else super().guess_type(path)

    def translate_path(self, path: str) -> str:
        """`/name/rest` in the folder of that name; the programs are `/`."""
        path = unquote(path.partition("?")[0])
        for name, folder in self.folders.items():
            if path.startswith(name):
                inside = (folder / path.removeprefix(name)).resolve()
                if inside.is_relative_to(folder.resolve()):
                    return str(inside)
        return os.devnull

    def do_GET(self) -> None:
        if self.path != "/job.json":
            super().do_GET()
            return
        body = self.job.to_json().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        place, _, query = self.path.partition("?")
        asked = {text.logits for text in self.job.texts}
        if place == "/result":
            self.results.put(json.loads(body))
        elif (path := unquote(query)) in asked:
            Path(path).write_bytes(body)
        self.send_response(204)
        self.end_headers()

    def end_headers(self) -> None:
        for name, value in ISOLATED.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def in_browser(job: Job, programs: Path, seconds: float) -> dict[str, Any]:
    """What the page gives. Raises UnavailableError."""
    command = browser()
    results: Results = queue.Queue()
    folders = {
        "/models/model/": Path(job.folder),
        "/modules/": Path(job.modules or ""),
        "/": programs,
    }
    handler = partial(_Server, job=job, folders=folders, results=results)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        profile = tempfile.mkdtemp(prefix="gpt2onnx-page-")
        url = f"http://127.0.0.1:{server.server_port}/page.html"
        process = subprocess.Popen(
            [command, *HEADLESS, f"--user-data-dir={profile}", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            answer = results.get(timeout=seconds)
            return answer if "reason" in answer else {**answer, **_memory(process.pid)}
        except queue.Empty:
            raise UnavailableError(f"the page gave no answer in {seconds:.0f} s") from None
        finally:
            process.terminate()
            process.wait()
            server.shutdown()
            shutil.rmtree(profile, ignore_errors=True)


def _memory(browser: int) -> dict[str, int | None]:
    """Resident bytes of the process that runs the page, the largest of its kind."""
    sizes = [_resident(each) for each in _descendants(browser) if _is_renderer(each)]
    return {"resident_bytes": max(sizes, default=None), "anonymous_bytes": None}


def _descendants(process: int) -> Iterator[int]:
    for children in PROCESSES.glob(f"{process}/task/*/children"):
        for child in map(int, children.read_text().split()):
            yield child
            yield from _descendants(child)


def _is_renderer(process: int) -> bool:
    return RENDERER in (PROCESSES / str(process) / "cmdline").read_text(errors="replace")


def _resident(process: int) -> int:
    status = (PROCESSES / str(process) / "status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024
