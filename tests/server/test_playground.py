"""The page in headless Chromium, driven by its debugging protocol over pipes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx import Model
from tests.server.conftest import Running

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--no-first-run", "--remote-debugging-pipe"),
)


class Browser:
    """A page in a browser. https://chromedevtools.github.io/devtools-protocol/"""

    def __init__(self, url: str, user: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        command = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={user}"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "bash", *command],
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._numbers, self._buffer, self._session = itertools.count(1), b"", ""
        target = self.call("Target.createTarget", url=url)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                self._buffer += os.read(self._from, 65536) or pytest.fail("the browser ended")
            found, self._buffer = self._buffer.split(b"\0", 1)
            answer = json.loads(found)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def js(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        end = time.monotonic() + 30
        while not self.js(expression):
            assert time.monotonic() < end, (expression, self.js("document.body.innerText"))
            time.sleep(0.02)


@pytest.fixture
def browser(server: Running, tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(server.url, tmp_path / "user")
    try:
        browser.until("document.querySelector('#model')?.value === 'demo'")
        yield browser
    finally:
        browser.close()


STATUS = "document.querySelector('#status').textContent"
TEXT = "[...document.querySelectorAll('#text > .t')].map((each) => each.textContent)"


def fill(browser: Browser, **values: str) -> None:
    for name, value in values.items():
        browser.js(f"document.getElementById({name!r}).value = {json.dumps(value)}")


@pytest.mark.skipif(not CHROMIUM, reason="no chromium on the PATH")
def test_it_writes_and_goes_on_from_an_alternative(browser: Browser, model: Model) -> None:
    prompt = "import os\n"
    expected = model.generate(prompt, max_new_tokens=12, top_logprobs=8)
    fill(browser, prompt=prompt, max_tokens="12", temperature="0")
    browser.js("document.querySelector('#write').click()")
    browser.until(f"{STATUS}.includes('; length')")
    assert "".join(browser.js(TEXT)) == expected.text
    assert "tokens/s" in browser.js(STATUS)

    browser.js("document.querySelectorAll('#text > .t')[3].focus()")
    options = browser.js(
        "[...document.querySelectorAll('#options > button')].map((each) => +each.dataset.id)"
    )
    assert options == [each.id for each in expected.alternatives[3]]
    ids = [*expected.prompt_token_ids, *expected.token_ids[:3], options[1]]
    other = model.generate(ids, max_new_tokens=12)
    browser.js("document.querySelectorAll('#options > button')[1].click()")
    browser.until(f"{STATUS}.includes('; length') && {TEXT}.length === 16")
    assert "".join(browser.js(TEXT)[4:]) == other.text


@pytest.mark.skipif(not CHROMIUM, reason="no chromium on the PATH")
def test_it_stops_and_tells_errors(browser: Browser, server: Running) -> None:
    more = {"eos_token_id": [], "overflow": "slide"}
    fill(browser, max_tokens="100000", temperature="0", more=json.dumps(more))
    browser.js("document.querySelector('#write').click()")
    browser.until(f"{TEXT}.length > 3")
    browser.js("document.querySelector('#stop').click()")
    browser.until(f"{STATUS} === 'stopped'")
    end = time.monotonic() + 30
    while server.engine.stats().rows:
        assert time.monotonic() < end
    fill(browser, more='{"top_k": -1}', max_tokens="3")
    browser.js("document.querySelector('#write').click()")
    browser.until(f"{STATUS}.includes('top_k=-1')")


def test_nothing_else_may_run_in_it(server: Running) -> None:
    status, text, headers = server.ask("/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
