"""Keys, hosts, several models, metrics, and what else is answered."""

from __future__ import annotations

import http.client
import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.errors import RequestError, ServerError
from gpt2onnx.server.app import Rules
from gpt2onnx.server.gate import LOOPBACK, Gate
from gpt2onnx.server.keys import Keys, read_keys
from tests.raising import raises
from tests.server.conftest import Running, serving
from tests.server.test_leaving import begin

OTHER = "sk-without-a-name"
BODY = {"model": "demo", "prompt": "x", "max_tokens": 1, "temperature": 0}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    file = tmp_path / "keys.txt"
    file.write_text("# whose\nalice: sk-alice-key\n\nsk-without-a-name  # bob's\n")
    return read_keys(file)


@pytest.fixture
def locked(model: Model, keys: Keys) -> Iterator[Running]:
    with serving({"demo": model, "other": model}, Rules(keys, LOOPBACK, 1)) as running:
        yield running


def test_keys(locked: Running) -> None:
    def ask(path: str, body: Any = None, **headers: str) -> int:
        return locked.ask(path, body, headers=headers)[0]

    for authorization in ("Bearer sk-alice-key", "bearer sk-without-a-name"):
        assert ask("/v1/completions", BODY, Authorization=authorization) == 200
    for path, body in [("/v1/completions", BODY), ("/v1/models", None), ("/metrics", None)]:
        assert ask(path, body) == 401
        for wrong in ("Bearer x", "Bearer", "Basic sk-alice-key", "Bearer sk-alice-ke\xff"):
            assert ask(path, body, Authorization=wrong) == 401
    assert ask("/health") == ask("/ready") == 200
    _, answer, headers = locked.ask("/v1/models")
    assert answer["error"]["code"] == "invalid_api_key"
    assert headers["www-authenticate"] == "Bearer"


def test_owners(keys: Keys) -> None:
    assert keys.owner("Bearer sk-alice-key") == "alice"
    assert re.fullmatch(r"[0-9a-f]{12}", keys.owner("Bearer sk-without-a-name"))


@pytest.mark.parametrize("content", ["", "# none\n", "short\n", "name:\n", "k\u00e9y-of-nobody\n"])
def test_files_without_a_key(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(content, encoding="utf-8")
    with raises(ServerError, path=file):
        read_keys(file)


def test_a_keys_limit(keys: Keys) -> None:
    gate = Gate(None, keys, most_of_key=1)  # type: ignore[arg-type]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/completions",
        "headers": [(b"authorization", b"Bearer sk-alice-key")],
    }
    assert gate._let_in(scope) == "alice"
    gate._of_key["alice"] += 1
    with pytest.raises(RequestError, match="1 requests of this key") as raised:
        gate._let_in(scope)
    assert (raised.value.status, raised.value.retry_after) == (429, 1)


def test_a_key_that_asks_for_too_much_at_once(locked: Running) -> None:
    """The others' aren't touched, and OpenAI's client tries again."""
    body = {"model": "demo", "prompt": "x", "max_tokens": 900, "eos_token_id": [], "seed": 1}
    alice, other = ({"Authorization": f"Bearer {key}"} for key in ("sk-alice-key", OTHER))
    with begun(locked, body, alice) as running:
        status, answer, headers = locked.ask("/v1/completions", BODY, headers=alice)
        assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded")
        assert answer["error"]["type"] == "rate_limit_error"
        assert headers["retry-after"] == "1"
        assert locked.ask("/v1/completions", BODY, headers=other)[0] == 200
        threading.Timer(0.3, running.close).start()
        url = f"{locked.url}/v1"
        with openai.OpenAI(base_url=url, api_key="sk-alice-key", max_retries=20) as client:
            again = client.completions.create(model="demo", prompt="x", max_tokens=1)
        assert again.choices[0].finish_reason == "length"
    _, text, _ = locked.ask("/metrics", headers=other)
    refused = re.search(r'path="/v1/completions",status="429"\} (\S+)', text)
    assert refused
    assert float(refused[1]) >= 2


@contextmanager
def begun(server: Running, body: Any, headers: dict[str, str]) -> Iterator[Any]:
    """A stream that has begun, and is left unread."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    content = json.dumps({**body, "stream": True})
    given = {"Content-Type": "application/json", **headers}
    connection.request("POST", "/v1/completions", content, given)
    response = connection.getresponse()
    assert response.status == 200
    response.read(1)
    yield response
    response.close()
    connection.close()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
        ("", 403),
    ],
)
def test_hosts(locked: Running, host: str, status: int) -> None:
    assert locked.ask("/health", headers={"Host": host})[0] == status


def test_no_other_origin_may_read(locked: Running) -> None:
    other = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    key = {"Authorization": "Bearer sk-alice-key"}
    for method in ("GET", "OPTIONS"):
        status, _, headers = locked.ask("/v1/models", method=method, headers=other | key)
        assert status == (200 if method == "GET" else 405)
        assert not [name for name in headers if name.startswith("access-control-")]


def test_several_models(locked: Running) -> None:
    key = {"Authorization": "Bearer sk-alice-key"}
    _, answer, _ = locked.ask("/v1/models", headers=key)
    assert [each["id"] for each in answer["data"]] == ["demo", "other"]
    assert locked.ask("/v1/models/other", headers=key)[1]["id"] == "other"
    assert locked.ask("/v1/models/third", headers=key)[0] == 404
    body = {**BODY, "model": "other"}
    assert locked.ask("/v1/completions", body, headers=key)[1]["model"] == "other"
    assert locked.models[1].engine.stats().finished == 1
    status, answer, _ = locked.ask("/v1/completions", {"prompt": "x"}, headers=key)
    assert (status, answer["error"]["param"]) == (400, "model")


def test_the_rest(server: Running) -> None:
    assert server.ask("/version")[1] == {"version": gpt2onnx.__version__}
    status, answer, _ = server.ask("/nowhere")
    assert (status, answer["error"]["code"]) == (404, "not_found")
    status, answer, headers = server.ask("/v1/completions")
    assert (status, headers["allow"]) == (405, "POST")


def counts_of(server: Running) -> dict[str, float]:
    """One scrape's, of the model demo. What was accepted is somewhere."""
    _, text, _ = server.ask("/metrics")
    found = dict(re.findall(r"^gpt2onnx:(\S+)\{model_name=\"demo\"\} (\S+)$", text, re.MULTILINE))
    counts = {name: float(value) for name, value in found.items()}
    ways = ("finished", "cancelled", "expired", "failed")
    over = sum(counts[f"requests_{way}_total"] for way in ways)
    now = sum(counts[f"num_requests_{state}"] for state in ("running", "waiting", "frozen"))
    assert counts["requests_accepted_total"] == over + now
    return counts


def test_metrics(server: Running) -> None:
    assert server.ask("/v1/completions", BODY)[0] == 200
    counts = counts_of(server)
    assert counts["requests_accepted_total"] >= 1
    assert counts["generation_tokens_total"] >= 1
    _, text, _ = server.ask("/metrics")
    assert 'gpt2onnx:http_requests_total{path="/v1/completions",status="200"}' in text


def test_counters_at_every_scrape(
    model: Model, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """While requests come, wait, run, are cancelled and expire; then all gauges are 0."""
    rng = random.Random(1)
    with serving({"demo": model}, Rules(queue_timeout=0.5), max_rows=4) as server:
        leaving: list[Any] = []
        for _ in range(40):
            body = {"prompt": "x", "max_tokens": rng.choice([1, 20, 400]), "eos_token_id": []}
            body |= {"priority": rng.choice([0, 0, 3]), "n": rng.choice([1, 1, 2]), "seed": 1}
            leaving.append(begin(server, body))
            if rng.random() < 0.5:
                leaving.pop(rng.randrange(len(leaving))).close()
            counts_of(server)
        for each in leaving:
            each.close()
        names = ("num_requests_running", "num_requests_waiting", "num_requests_frozen")
        names = (*names, "cache_rows")
        eventually(lambda: not any(counts_of(server)[name] for name in names))
        assert counts_of(server)["requests_cancelled_total"] >= 1
        assert counts_of(server)["requests_failed_total"] == 0


def test_tokens_and_texts(server: Running, model: Model) -> None:
    text = "import os\nnaïve"
    ids = model.token_ids(text).tolist()
    _, answer, _ = server.ask("/tokenize", {"prompt": text, "return_token_strs": True})
    assert (answer["tokens"], answer["count"]) == (ids, len(ids))
    assert answer["max_model_len"] == model.decoder.n_positions
    assert server.ask("/detokenize", {"tokens": ids})[1] == {"prompt": text}
    assert server.ask("/detokenize", {"tokens": [10**9]})[0] == 400
    assert server.ask("/tokenize", {})[1]["error"]["param"] == "prompt"


def test_errors_name_the_field_that_a_text_is_in(server: Running) -> None:
    for path, field in [("/detokenize", "tokens"), ("/v1/score", "text")]:
        status, answer, _ = server.ask(path, {field: [10**9]})
        assert (status, answer["error"]["param"]) == (400, field)


def test_a_tokenizers_settings(server: Running, locked: Running) -> None:
    """As vLLM tells them: what is in tokenizer_config.json, or else what the model knows."""
    _, answer, _ = server.ask("/tokenizer_info")
    assert answer == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "model_max_length": 1024,
    }
    key = {"Authorization": "Bearer sk-alice-key"}
    assert locked.ask("/tokenizer_info", headers=key)[0] == 400
    assert locked.ask("/tokenizer_info?model=other", headers=key)[1] == answer


def test_a_score(server: Running, model: Model) -> None:
    expected = model.score("import os\n" * 200, top_logprobs=1)
    _, answer, _ = server.ask("/v1/score", {"text": "import os\n" * 200, "top_logprobs": 1})
    assert [each["logprob"] for each in answer["tokens"]] == expected.logprobs
    assert [each["id"] for each in answer["tokens"]] == expected.token_ids
    assert answer["tokens"][3]["top_logprobs"][0]["id"] == expected.alternatives[3][0].id
    assert answer["perplexity"] == expected.perplexity
    assert answer["bits_per_byte"] == expected.bits_per_byte
    for body in ({}, {"text": ""}, {"text": "x " * 50_000}, {"text": "x", "add_bos": 3}):
        assert server.ask("/v1/score", body)[0] == 400
