"""POST /v1/completions: each answer is what the model gives alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gpt2onnx import Model
from tests.server.conftest import Running, serving

PATH = "/v1/completions"
GREEDY = {"model": "demo", "temperature": 0, "max_tokens": 8}
# A request's fields, and Model.generate's parameters.
KINDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"temperature": 0}, {}),
    ({"seed": 3}, {"do_sample": True, "top_k": 0, "seed": 3}),
    (
        {"seed": 3, "n": 3, "temperature": 1.1, "top_p": 0.9},
        {
            "do_sample": True,
            "top_k": 0,
            "seed": 3,
            "num_return_sequences": 3,
            "temperature": 1.1,
            "top_p": 0.9,
        },
    ),
    (
        {"seed": 1, "n": 2, "best_of": 4},
        {"do_sample": True, "top_k": 0, "seed": 1, "num_return_sequences": 2, "best_of": 4},
    ),
    ({"num_beams": 4, "n": 2}, {"num_beams": 4, "num_return_sequences": 2}),
    ({"temperature": 0, "prompt_lookup_num_tokens": 4}, {"prompt_lookup_num_tokens": 4}),
    (
        {"temperature": 0, "guidance_scale": 1.7, "negative_prompt": "import sys"},
        {"guidance_scale": 1.7, "negative_prompt": "import sys"},
    ),
    (
        {"seed": 9, "regex": "[a-z]{3,30}!", "top_k": 20},
        {"do_sample": True, "seed": 9, "regex": "[a-z]{3,30}!", "top_k": 20},
    ),
    (
        {"temperature": 0, "stop": ["\n\n", "):"], "frequency_penalty": 1.3},
        {"stop_strings": ["\n\n", "):"], "frequency_penalty": 1.3},
    ),
    (
        {"temperature": 0, "logit_bias": {"11": -100, "300": 2.5}},
        {"logit_bias": {11: -100, 300: 2.5}},
    ),
    (
        {"temperature": 0, "response_format": {"type": "json_object"}},
        {"json_schema": {"type": "object"}},
    ),
]
PROMPTS = ["def read(path):\n", "import os\n" * 20, "class A:", "x"]


def alone(model: Model, prompts: list[Any], **parameters: Any) -> list[Any]:
    """What the model gives, as one list."""
    results = model.generate(prompts, **parameters)
    return [
        each for result in results for each in (result if isinstance(result, list) else [result])
    ]


def test_a_mix_of_requests_gives_what_each_gives_alone(server: Running, model: Model) -> None:
    asked = [
        (PROMPTS[n % len(PROMPTS)], 4 + n % 9, *KINDS[n % len(KINDS)])
        for n in range(3 * len(KINDS))
    ]

    def ask(each: tuple[str, int, dict[str, Any], dict[str, Any]]) -> Any:
        prompt, length, fields, _ = each
        body = {"model": "demo", "prompt": prompt, "max_tokens": length, "logprobs": 0, **fields}
        return server.ask(PATH, body)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, asked))
    for (prompt, length, _, parameters), (status, answer, _headers) in zip(
        asked, answers, strict=True
    ):
        assert status == 200, answer
        expected = alone(model, [prompt], max_new_tokens=length, **parameters)
        choices = answer["choices"]
        assert [choice["text"] for choice in choices] == [each.text for each in expected]
        assert [choice["logprobs"]["token_logprobs"] for choice in choices] == [
            each.logprobs for each in expected
        ]
        assert [choice["index"] for choice in choices] == list(range(len(expected)))


def test_a_mix_that_waits_and_freezes_gives_the_same(model: Model) -> None:
    """Few rows, prompts whose beginning is known, and some that go before others."""
    shared = "import os\nimport sys\n" * 30
    with serving({"demo": model}, max_rows=4, prefix_cache="64M") as server:

        def ask(n: int) -> tuple[Any, list[Any]]:
            fields, parameters = KINDS[n % len(KINDS)]
            prompt, length = f"{shared}{PROMPTS[n % len(PROMPTS)]}", 6 + n % 5
            body = {"prompt": prompt, "max_tokens": length, "logprobs": 0, **fields}
            found = server.ask(PATH, {**body, "priority": (0, 0, 0, 5)[n % 4]})
            return found, [prompt, length, parameters]

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(2 * len(KINDS))))
        prefixes = server.engine.stats().prefixes
    assert prefixes
    assert prefixes.hits
    for (status, answer, _), (prompt, length, parameters) in answers:
        assert status == 200, answer
        expected = alone(model, [prompt], max_new_tokens=length, **parameters)
        for choice, each in zip(answer["choices"], expected, strict=True):
            assert choice["text"] == each.text
            assert choice["logprobs"]["token_logprobs"] == each.logprobs


FORM = {"temperature": 0, "max_tokens": 30, "regex": "[a-z]{3,9}: [0-9]{2,4}!"}


def test_a_text_goes_on_from_within(server: Running, model: Model) -> None:
    body = {**FORM, "prompt": "import os\n", "logprobs": 1, "return_token_ids": True}
    whole = server.ask(PATH, body)[1]["choices"][0]
    for cut in (1, 4, len(whole["token_ids"]) - 1):
        begun = whole["token_ids"][:cut]
        status, answer, _ = server.ask(PATH, {**body, "prefill_ids": begun})
        assert status == 200, answer
        (rest,) = answer["choices"]
        assert rest["token_ids"] == whole["token_ids"][cut:]
        assert rest["prompt_token_ids"] == whole["prompt_token_ids"]
        assert model.tokenizer.decode(begun) + rest["text"] == whole["text"]
        assert rest["logprobs"]["token_logprobs"] == whole["logprobs"]["token_logprobs"][cut:]
        assert rest["finish_reason"] == whole["finish_reason"]
        usage = answer["usage"]
        assert usage["prompt_tokens"] == len(whole["prompt_token_ids"]) + cut
        assert usage["completion_tokens"] == len(rest["token_ids"])
        frames = server.frames(PATH, {**body, "prefill_ids": begun})[:-1]
        assert "".join(each["choices"][0]["text"] for each in frames) == rest["text"]


def test_a_text_that_is_whole_already(server: Running) -> None:
    body = {**FORM, "prompt": "import os\n", "return_token_ids": True}
    whole = server.ask(PATH, body)[1]["choices"][0]
    body["prefill_ids"] = whole["token_ids"]
    expected = {**whole, "text": "", "token_ids": []}
    status, answer, _ = server.ask(PATH, body)
    assert (status, answer["choices"]) == (200, [expected])
    several = {**body, "prompt": ["a", "b"], "stream_options": {"include_usage": True}}
    *frames, last, done = server.frames(PATH, several)
    assert [each["choices"][0]["finish_reason"] for each in frames] == ["stop"] * 2
    assert [each["choices"][0]["index"] for each in frames] == [0, 1]
    assert (last["usage"]["completion_tokens"], done) == (0, "[DONE]")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prefill_ids": [0]}, "prefill_ids"),
        ({"prefill_ids": ["a"]}, "prefill_ids"),
        ({"prefill_ids": [10**6]}, "prefill_ids"),
        ({"prefill_ids": [65], "num_beams": 2, "regex": None}, "prefill_ids"),
        ({"prefill_ids": [65], "echo": True}, "echo"),
        ({"prefill_ids": [65], "max_tokens": 0}, "max_tokens"),
    ],
)
def test_beginnings_that_are_refused(server: Running, fields: dict[str, Any], param: str) -> None:
    status, answer, _ = server.ask(PATH, {**FORM, "prompt": "x", **fields})
    assert (status, answer["error"]["param"]) == (400, param), answer


def test_the_object(server: Running, model: Model) -> None:
    status, answer, _ = server.ask(PATH, {**GREEDY, "prompt": "import os\n"})
    expected = model.generate("import os\n", max_new_tokens=8)
    assert status == 200
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert answer["model"] == "demo"
    assert answer["choices"] == [
        {"index": 0, "text": expected.text, "logprobs": None, "finish_reason": "length"}
    ]
    read = len(expected.prompt_token_ids)
    assert answer["usage"] == {
        "prompt_tokens": read,
        "completion_tokens": 8,
        "total_tokens": read + 8,
    }


def test_every_form_of_prompt(server: Running, model: Model) -> None:
    texts = ["def f", "import os"]
    ids = [model.token_ids(text).tolist() for text in texts]
    expected = [each.text for each in model.generate(texts, max_new_tokens=8)]
    for prompt, found in [(texts, expected), (ids, expected), (ids[0], expected[:1])]:
        _, answer, _ = server.ask(PATH, {**GREEDY, "prompt": prompt})
        assert [choice["text"] for choice in answer["choices"]] == found
    _, answer, _ = server.ask(PATH, GREEDY)  # none is an empty one
    assert answer["choices"][0]["text"] == model.generate("", max_new_tokens=8).text


def test_sixteen_tokens_unless_asked(server: Running) -> None:
    _, answer, _ = server.ask(PATH, {"prompt": "import os\n", "temperature": 0})
    assert answer["usage"]["completion_tokens"] == 16


def test_logprobs_with_echo(server: Running, model: Model) -> None:
    """What lm-evaluation-harness reads."""
    prompt = "import os\nimport sys\n"
    body = {**GREEDY, "prompt": prompt, "max_tokens": 1, "logprobs": 2, "echo": True, "seed": 1234}
    _, answer, _ = server.ask(PATH, body)
    (choice,) = answer["choices"]
    listed = choice["logprobs"]
    written = model.generate(prompt, max_new_tokens=1, top_logprobs=2, prompt_logprobs=True)
    scored = model.score(written.prompt_token_ids, add_bos=False)
    assert listed["token_logprobs"] == [None, *scored.logprobs, *written.logprobs]
    assert listed["top_logprobs"][0] is None
    assert choice["text"] == prompt + written.text
    for token, place in zip(listed["tokens"], listed["text_offset"], strict=True):
        assert choice["text"][place:].startswith(token)
    rows = [*written.prompt_alternatives, *written.alternatives]
    for top, row in zip(listed["top_logprobs"][1:], rows, strict=True):
        assert list(top.items())[:2] == [(each.text, each.logprob) for each in row]
        assert max(top.values()) == row[0].logprob


def test_token_ids(server: Running, model: Model) -> None:
    body = {**GREEDY, "prompt": "import os\n", "logprobs": 3, "return_token_ids": True}
    expected = model.generate("import os\n", max_new_tokens=8, top_logprobs=3)
    (choice,) = server.ask(PATH, body)[1]["choices"]
    assert choice["token_ids"] == expected.token_ids
    assert choice["logprobs"]["top_token_ids"] == [
        {each.text: each.id for each in row} for row in expected.alternatives
    ]
    assert choice["prompt_token_ids"] == expected.prompt_token_ids
    pieces = [frame["choices"][0] for frame in server.frames(PATH, body)[:-1]]
    assert [id_ for piece in pieces for id_ in piece["token_ids"]] == expected.token_ids
    assert pieces[0]["prompt_token_ids"] == expected.prompt_token_ids
    assert not any("prompt_token_ids" in piece for piece in pieces[1:])


def test_echo_without_writing(server: Running, model: Model) -> None:
    prompts = ["import os\n", "x"]
    body = {**GREEDY, "prompt": prompts, "max_tokens": 0, "logprobs": 1, "echo": True}
    _, answer, _ = server.ask(PATH, body)
    for prompt, choice in zip(prompts, answer["choices"], strict=True):
        ids = model.token_ids(prompt).tolist()
        scored = model.score(ids, add_bos=False).logprobs if len(ids) > 1 else []
        assert choice["text"] == prompt
        assert choice["logprobs"]["token_logprobs"] == [None, *scored]
        assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 0
    whole = server.frames(PATH, body)
    assert [each["choices"][0] for each in whole[:-1]] == answer["choices"]


def test_an_end_token_is_listed(server: Running, model: Model) -> None:
    end = model.generate("x", max_new_tokens=1).token_ids[0]
    body = {**GREEDY, "prompt": "x", "eos_token_id": end, "logprobs": 1}
    _, answer, _ = server.ask(PATH, body)
    (choice,) = answer["choices"]
    assert len(choice["logprobs"]["tokens"]) == 1
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"seed": 5, "n": 3},
        {"temperature": 0, "stop": ["os", "t s"]},
        {"temperature": 0, "echo": True},
        {"seed": 2, "logprobs": 2},
        {"seed": 2, "logprobs": 2, "return_token_ids": True},
        {"temperature": 0, "echo": True, "logprobs": 1},
    ],
)
def test_a_stream_is_the_whole_answer(server: Running, fields: dict[str, Any]) -> None:
    body = {"prompt": ["import sys\n", "é# naïve"], "max_tokens": 12, **fields}
    _, whole, _ = server.ask(PATH, body)
    frames = server.frames(PATH, {**body, "stream_options": {"include_usage": True}})
    assert frames[-1] == "[DONE]"
    assert frames[-2]["choices"] == []
    assert frames[-2]["usage"] == whole["usage"]
    assert all(frame["usage"] is None for frame in frames[:-2])
    for choice in whole["choices"]:
        pieces = [
            frame["choices"][0]
            for frame in frames[:-2]
            if frame["choices"][0]["index"] == choice["index"]
        ]
        assert "".join(piece["text"] for piece in pieces) == choice["text"]
        assert [piece["finish_reason"] for piece in pieces] == [
            *[None] * (len(pieces) - 1),
            choice["finish_reason"],
        ]
        for name, listed in (choice["logprobs"] or {}).items():
            assert [each for piece in pieces for each in piece["logprobs"][name]] == listed


def test_stop_strings_at_every_border(server: Running) -> None:
    """Streamed, whole and cut by hand: the same, wherever tokens end."""
    body = {"prompt": "# é ü\nimport", "seed": 11, "temperature": 1.3, "max_tokens": 9}
    text = server.ask(PATH, body)[1]["choices"][0]["text"]
    stops = {text[start : start + size] for start in range(len(text)) for size in (1, 4)}
    for stop in sorted(stops):
        expected = text[: text.index(stop)]
        whole = server.ask(PATH, {**body, "stop": [stop]})[1]["choices"][0]
        assert (whole["text"], whole["finish_reason"]) == (expected, "stop"), stop
        pieces = [f["choices"][0] for f in server.frames(PATH, {**body, "stop": stop})[:-1]]
        assert "".join(piece["text"] for piece in pieces) == expected, stop


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"suffix": "x"}, "suffix", "isn't served"),
        ({"frobnicate": 1, "zap": 2}, "frobnicate", "unknown fields: 'frobnicate', 'zap'"),
        ({"top_p": 2}, "top_p", "top_p=2: expected a number from 0 to 1"),
        ({"max_tokens": -1}, "max_tokens", "expected an integer from 0"),
        ({"n": 0}, "n", "n=0: expected an integer of at least 1"),
        ({"n": 129}, "n", "at most 128"),
        ({"n": 2, "prompt": ["x"] * 65}, "n", "prompts is 130: expected at most 128"),
        ({"frobnicate": None}, "frobnicate", "unknown fields"),
        ({"n": 2, "temperature": 0}, "n", "n=2 has no effect without"),
        ({"n": 1, "best_of": 2, "stream": True}, "stream", "best_of"),
        ({"logprobs": 21}, "logprobs", "from 0 to 20"),
        ({"logprobs": True}, "logprobs", "from 0 to 20"),
        ({"echo": "yes"}, "echo", "true or false"),
        ({"stop": ["x"] * 33}, "stop", "at most 32"),
        ({"logit_bias": {str(n): 1 for n in range(1025)}}, "logit_bias", "at most 1024"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "token ids"),
        ({"json_schema": {"enum": ["x" * 70_000]}}, "json_schema", "at most 65,536"),
        ({"prompt": []}, "prompt", "is empty"),
        ({"prompt": [1, 10**9]}, "prompt", "the model's vocabulary"),
        ({"prompt": [True]}, "prompt", "expected"),
        ({"prompt": "x " * 9000}, "prompt", "positions"),
        ({"prompt": {"a": 1}}, "prompt", "no prompt"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "without stream"),
        ({"temperature": -1}, "temperature", "above 0"),
        ({"max_tokens": 1, "max_new_tokens": 1}, "max_new_tokens", "leave one out"),
        ({"draft": "/etc"}, "draft", "isn't served"),
        ({"stop_fn": "x"}, "stop_fn", "unknown fields"),
    ],
)
def test_what_is_refused(server: Running, fields: dict[str, Any], param: str, message: str) -> None:
    status, answer, _ = server.ask(PATH, {"model": "demo", "prompt": "x", **fields})
    error = answer["error"]
    assert (status, error["param"], error["type"]) == (400, param, "invalid_request_error"), error
    assert message in error["message"]
    assert len(error["message"]) < 1100


def test_what_has_no_effect_is_taken(server: Running) -> None:
    body = {**GREEDY, "prompt": "x", "user": "me", "metadata": {"a": "b"}, "seed": 7, "top_p": 1}
    assert server.ask(PATH, body)[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b'{"prompt": NaN}', {}, 400),
        (b'{"temperature": 1e999}', {}, 400),
        (b'{"prompt": "\\ud800"}', {}, 400),
        (b'{"prompt": ' + b"[" * 100_000, {}, 400),
        (b'{"prompt": [' + b"1," * 1_000_000 + b"1]}", {}, 400),
        (b'{"prompt": "' + b"x" * 2**22 + b'"}', {}, 413),
        (b"prompt=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b'{"model": "other"}', {}, 404),
    ],
)
def test_bodies(server: Running, body: bytes, headers: dict[str, str], status: int) -> None:
    found, answer, _ = server.ask(PATH, body, headers=headers)
    assert found == status
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert len(str(answer)) < 2000
    assert server.engine.stats().rows == 0
