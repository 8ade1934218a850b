"""The JavaScript decoding loop on a real model: in Node, and in the example's page in Chromium."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx.demo import CHECKPOINT
from tests.chromium import CHROMIUM, HEADLESS
from tests.runtimes.environments import ROOT, SECONDS, node_modules, said

pytestmark = pytest.mark.slow
PROMPTS = ["def read(path):\n    ", 'class Stack:\n    """', "import os\n"]
TOKENS = 32
# Chromium's own software, where there is no GPU.
SOFTWARE_WEBGPU = ("--enable-unsafe-webgpu", "--enable-unsafe-swiftshader")
DRAWS: list[dict[str, Any]] = [
    {},
    {"do_sample": True, "seed": 7},
    {"do_sample": True, "seed": 8, "temperature": 0.8, "top_k": 20},
    {"do_sample": True, "seed": 2**40, "top_k": 0, "top_p": 0.9},
]
# Writes behind each prompt in the page, as a user does, and posts what it shows.
DRIVER = """
const frame = document.querySelector("iframe");
const wait = async (done) => { while (!done()) await new Promise((next) => setTimeout(next, 50)); };
const say = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
try {
  const page = () => frame.contentDocument;
  const element = (id) => page()?.getElementById(id);
  const failed = () => element("status")?.textContent.startsWith("error");
  const ready = () => (element("write") && !element("write").disabled) || failed();
  await wait(ready);
  const found = [element("status").textContent];
  for (const prompt of PROMPTS) {
    element("prompt").value = prompt;
    element("tokens").value = TOKENS;
    element("write").click();
    await wait(ready);
    found.push(failed() ? element("status").textContent : element("text").textContent);
  }
  await say(found);
} catch (error) { await say([String(error)]); }
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("models")

    def make(precision: str) -> Path:
        options = {"runtime": "transformers.js", "precision": precision, "verify": False}
        out = root / precision
        return out if out.exists() else gpt2onnx.export(CHECKPOINT, out, **options).folder

    return make


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4", "fp16"])
def test_node_writes_pythons_tokens(
    precision: str, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = exported(precision)
    (tmp_path / "node_modules").symlink_to(node_modules())
    shutil.copytree(ROOT / "js", tmp_path / "js")
    (tmp_path / "run.mjs").write_text(f"""
import * as ort from "onnxruntime-node";
import {{ load }} from "./js/index.js";
import {{ diskFolder }} from "./js/node.js";
const model = await load(ort, diskFolder(ort, {json.dumps(str(folder))}));
const found = [];
for (const options of {json.dumps(DRAWS)}) for (const prompt of {json.dumps(PROMPTS)}) {{
  found.push(await model.generate(prompt, {{ max_new_tokens: {TOKENS}, ...options }}));
}}
console.log(JSON.stringify(found));
""")
    model = gpt2onnx.load(folder, startup_cache=False)
    expected = [
        model.generate(prompt, max_new_tokens=TOKENS, **options)
        for options in DRAWS
        for prompt in PROMPTS
    ]
    found = json.loads(said("node", "run.mjs", cwd=tmp_path))
    assert [each["tokens"] for each in found] == [list(each.token_ids) for each in expected]
    assert [each["text"] for each in found] == [each.text for each in expected]


class Server(SimpleHTTPRequestHandler):
    """Serves a folder; what is posted goes to a queue."""

    def __init__(self, *args: Any, results: queue.Queue[Any], **options: Any) -> None:
        self.results = results
        super().__init__(*args, **options)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.results.put(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def in_browser(folder: Path, path: str, *flags: str) -> Any:
    """What the page at `path` posts, in headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("Chromium isn't installed")
    results: queue.Queue[Any] = queue.Queue()
    handler = partial(Server, directory=str(folder), results=results)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{path}"
        profile = f"--user-data-dir={folder / 'profile'}"
        process = subprocess.Popen(
            [CHROMIUM, *HEADLESS, *flags, "--disable-dev-shm-usage", profile, url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return results.get(timeout=SECONDS)
        finally:
            process.terminate()
            process.wait()
            server.shutdown()


def shown(folder: Path, place: Path, prompts: list[str], tokens: int, *flags: str) -> list[str]:
    """The example's status and texts, opened in `place` on a model folder."""
    page = shutil.copytree(ROOT / "examples" / "browser", place / "examples" / "browser")
    (page / "node_modules").symlink_to(node_modules())
    (page / "model").symlink_to(folder)
    shutil.copytree(ROOT / "js", place / "js")
    given = f"const PROMPTS = {json.dumps(prompts)}, TOKENS = {tokens};"
    (place / "test.html").write_text(
        '<iframe src="examples/browser/index.html"></iframe>'
        f'<script type="module">{given}{DRIVER}</script>'
    )
    found: list[str] = in_browser(place, "test.html", *flags)
    return found


def texts(folder: Path, prompts: list[str], tokens: int) -> list[str]:
    model = gpt2onnx.load(folder, startup_cache=False)
    return [prompt + model.generate(prompt, max_new_tokens=tokens).text for prompt in prompts]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_page_writes_pythons_text(
    precision: str, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = exported(precision)
    status, *found = shown(folder, tmp_path, PROMPTS, TOKENS)
    assert status == "ready, on wasm"
    assert found == texts(folder, PROMPTS, TOKENS)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_page_writes_it_by_webgpu_too(
    precision: str, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    """In software, a step a second or more: few tokens."""
    folder = exported(precision)
    status, *found = shown(folder, tmp_path, PROMPTS[:1], 4, *SOFTWARE_WEBGPU)
    assert status == "ready, on webgpu"
    assert found == texts(folder, PROMPTS[:1], 4)
