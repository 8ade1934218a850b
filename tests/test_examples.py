"""The examples in Python, with the bundled model."""

from __future__ import annotations

import json
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import gpt2onnx
from gpt2onnx import Model

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def bundled() -> Model:
    return gpt2onnx.load("demo", provider="cpu", threads=1)


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def run(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], input=said, capture_output=True, text=True, cwd=EXAMPLES
    )


def test_a_conversation_is_read_as_one_prompt(bundled: Model) -> None:
    chatbot = example("chatbot")
    conversation = chatbot["Conversation"](bundled, seed=3)
    end = bundled.tokenizer.token_to_id("<|endoftext|>")
    for line in ("import os", "def main():"):
        pieces = list(conversation.answer(line))
        prompt = [token for turn in conversation.turns[:-1] for token in turn]
        alone = bundled.generate(
            prompt, max_new_tokens=60, do_sample=True, temperature=0.8, top_p=0.95, seed=3
        )
        assert "".join(pieces) == alone.text
        assert conversation.turns[-1][: len(alone.token_ids)] == alone.token_ids
    assert len(conversation.turns) == 4
    assert all(turn.count(end) == 1 and turn[-1] == end for turn in conversation.turns)


def test_the_oldest_turns_are_forgotten(bundled: Model) -> None:
    conversation = example("chatbot")["Conversation"](bundled)
    conversation.turns = [[1] * 600, [2] * 300, [3] * 200]
    conversation.forget()
    assert [turn[0] for turn in conversation.turns] == [2, 3]
    conversation.turns = [[1] * 2000]
    conversation.forget()
    assert len(conversation.turns) == 1  # what was said last stays; generate keeps its end


def test_the_chatbot_runs() -> None:
    talked = run("chatbot.py", "demo", "--seed", "3", said="import os\n\nnever read")
    assert (talked.returncode, talked.stderr) == (0, "")
    assert talked.stdout.strip()


def test_what_is_extracted_is_what_the_schema_allows(bundled: Model) -> None:
    pytest.importorskip("llguidance")
    extract = example("extract")
    for person in extract["EXAMPLES"].values():
        jsonschema.validate(person, extract["SCHEMA"])
    people = list(extract["extract"](bundled, ["Alan, 41, a scientist.", "Nobody."]))
    assert len(people) == 2
    for person in people:
        jsonschema.validate(person, extract["SCHEMA"])


def test_extract_runs() -> None:
    pytest.importorskip("llguidance")
    printed = run("extract.py", "demo", said="Alan, 41, a scientist.\n\nGrace, 85.\n")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert [sorted(json.loads(line)) for line in printed.stdout.splitlines()] == [
        ["age", "job", "name"]
    ] * 2


@pytest.mark.parametrize("name", ["chatbot", "extract"])
def test_an_error_is_a_line(name: str) -> None:
    failed = run(f"{name}.py", "nowhere", said="x\n")
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"{name}: nowhere: ")
    assert len(failed.stderr.splitlines()) == 1


@pytest.mark.slow
def test_two_replicas(bundled: Model) -> None:
    """Ray Serve's answers are generate's, whichever replica gives them; then it ends."""
    pytest.importorskip("ray.serve", reason="needs ray[serve]")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = [sys.executable, "ray_serve.py", "--port", str(port)]
    with subprocess.Popen(started, cwd=EXAMPLES, stderr=subprocess.PIPE) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/ready", process)
            prompts = [f"def f{n}(" for n in range(12)]
            texts = [_completion(port, prompt, str(n)) for n, prompt in enumerate(prompts)]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=120)
    assert texts == [each.text for each in bundled.generate(prompts, max_new_tokens=8)]


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except OSError:
            time.sleep(1)
    process.kill()
    raise AssertionError(process.stderr.read()[-3000:])


def _completion(port: int, prompt: str, session: str) -> str:
    body = {"model": "demo", "prompt": prompt, "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "x-session-id": session},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)["choices"][0]["text"]
