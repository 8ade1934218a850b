"""What lines ask for, and what is wrong with those that can't be answered."""

from __future__ import annotations

import hashlib
import json

import pytest

from gpt2onnx.batch import requests
from gpt2onnx.batch.lines import Line
from gpt2onnx.batch.requests import Asked, LineError, in_order, merged, read


def test_openais_line() -> None:
    given = {"custom_id": "a", "method": "POST", "url": "/v1/score", "body": {"text": "b"}}
    assert read(Line(3, json.dumps(given).encode()), "json") == Asked(
        3, "a", "/v1/score", {"text": "b"}
    )


def test_lines_of_ours() -> None:
    assert read(Line(3, b'{"prompt": "x", "top_k": 2}'), "json") == Asked(
        3, "line-3", None, {"prompt": "x", "top_k": 2}
    )
    named = read(Line(3, b'\xef\xbb\xbf{"prompt": [1], "custom_id": "me"}'), "json")
    assert named == Asked(3, "me", None, {"prompt": [1]})
    assert read(Line(4, b'{"prompt": "x"}'), "text") == Asked(
        4, "line-4", None, {"prompt": '{"prompt": "x"}'}
    )


@pytest.mark.parametrize("form", ["json", "text"])
def test_blank_lines(form: str) -> None:
    assert read(Line(1, b""), form) is None
    assert read(Line(1, b" \t"), form) is None


OPENAI = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {}}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{", "the line: expected JSON, found a mistake at line 1, column 2"),
        ("[1]", "the line: expected a JSON object, found a list"),
        ('"\\ud800"', "half a surrogate pair"),
        ({}, "custom_id is missing: expected OpenAI's batch line, or one with prompt"),
        ({"custom_id": "a", "body": {}}, "url is missing"),
        ({**OPENAI, "custom_id": 7}, "custom_id is 7: expected a string"),
        ({**OPENAI, "custom_id": ""}, "custom_id is '': expected a string"),
        ({**OPENAI, "method": "GET"}, "method is 'GET': expected POST"),
        ({**OPENAI, "url": "/health"}, "url is '/health': expected a path such as /v1/completions"),
        ({**OPENAI, "url": 1}, "url is 1"),
        ({**OPENAI, "body": "x"}, "body is 'x': expected an object"),
        ({**OPENAI, "body": {"stream": True}}, "stream has no meaning in a batch"),
        ({**OPENAI, "priority": 1}, "priority is unknown"),
        ({**OPENAI, "prompt": "x"}, "prompt is unknown"),
    ],
)
def test_lines_that_are_refused(given: object, told: str) -> None:
    content = given if isinstance(given, str) else json.dumps(given)
    with pytest.raises(LineError) as raised:
        read(Line(1, content.encode()), "json")
    assert told in str(raised.value.error)


def test_what_is_no_text() -> None:
    with pytest.raises(LineError) as raised:
        read(Line(1, b"caf\xe9"), "text")
    assert str(raised.value.error) == (
        "the line: expected UTF-8, found something else: byte 3 is 0xe9"
    )
    with pytest.raises(LineError) as raised:
        read(Line(1, None), "text")
    assert str(raised.value.error) == "the line has more than 4,194,304 bytes"


def test_a_seed_by_hand() -> None:
    """The first 63 bits of SHA-256 of the job's seed and the name."""
    digits = hashlib.sha256(b"0\0line-1").hexdigest()
    assert Asked(1, "line-1", None).seed(0) == int(digits[:16], 16) >> 1
    assert Asked(9, "line-1", "/v1/completions").seed(0) == Asked(1, "line-1", None).seed(0)
    assert Asked(1, "line-1", None).seed(1) != Asked(1, "line-1", None).seed(0)


def test_a_lines_own_words_displace_the_jobs() -> None:
    job = {"max_new_tokens": 5, "do_sample": True, "top_k": 3, "stop_strings": ["a"]}
    assert merged(job, {}) == job
    assert merged(job, {"max_length": 9, "stop": "b"}) == {
        "do_sample": True,
        "top_k": 3,
        "max_length": 9,
        "stop": "b",
    }
    assert merged(job, {"temperature": 0, "max_tokens": 1, "top_k": 4}) == {
        "stop_strings": ["a"],
        "temperature": 0,
        "max_tokens": 1,
        "top_k": 4,
    }


def test_those_that_begin_alike_stand_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "WINDOW", 5)
    shared = "s" * 256
    texts = [shared + "bb", "long enough", "x", shared + "a", "four", "9", "10"]
    asked = [Asked(n, str(n), None, {"prompt": text}) for n, text in enumerate(texts)]
    assert [each.number for each in in_order(asked)] == [2, 4, 1, 3, 0, 5, 6]
    messages = Asked(0, "0", "/v1/chat/completions", {"messages": [{"content": "hi"}]})
    assert "hi" in messages.text()
