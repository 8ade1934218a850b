"""POST /v1/chat/completions: the model's own template, and what the model gives alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.errors import ModelFolderError, RequestError
from gpt2onnx.server.chat_template import ChatTemplate, find_template
from tests.checkpoints import END_OF_TEXT, make_checkpoint
from tests.server.conftest import Running, serving

PATH = "/v1/chat/completions"
TEMPLATE = """\
{%- for message in messages -%}
{{ '# ' + message['role'] + ': ' + message['content'] + '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}# assistant: {%- endif -%}
"""
MESSAGES = [
    {"role": "system", "content": "You write Python."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "List a "}, {"type": "text", "text": "x"}],
    },
]
PROMPT = "# system: You write Python.\n# user: List a x\n# assistant:"
GREEDY = {"model": "chat", "messages": MESSAGES, "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def chat(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The bundled model, once with a template and once without."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(model.folder.path, folder)
    settings = {"chat_template": TEMPLATE, "bos_token": {"content": "<|endoftext|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    models = {"chat": gpt2onnx.load(folder, threads=1), "plain": model}
    with serving(models, max_rows=8) as running:
        yield running


def test_the_object(chat: Running, model: Model) -> None:
    expected = model.generate(PROMPT, max_new_tokens=12)
    status, answer, _ = chat.ask(PATH, GREEDY)
    assert status == 200, answer
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected.text, "refusal": None}
    assert (choice["finish_reason"], choice["logprobs"]) == ("length", None)
    assert answer["usage"]["prompt_tokens"] == len(expected.prompt_token_ids)


def test_openais_client(chat: Running, model: Model) -> None:
    expected = model.generate(PROMPT, max_new_tokens=12).text
    with openai.OpenAI(base_url=f"{chat.url}/v1", api_key="none") as client:
        given: Any = {"messages": MESSAGES, "temperature": 0, "max_completion_tokens": 12}
        answer = client.chat.completions.create(model="chat", **given)
        assert answer.choices[0].message.content == expected
        with client.chat.completions.create(model="chat", stream=True, **given) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
        assert "".join(pieces) == expected


def test_a_tokenizers_settings(chat: Running) -> None:
    _, answer, _ = chat.ask("/tokenizer_info?model=chat")
    assert answer["chat_template"] == TEMPLATE
    assert answer["bos_token"] == {"content": "<|endoftext|>"}
    assert answer["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_logprobs(chat: Running, model: Model) -> None:
    expected = model.generate(PROMPT, max_new_tokens=12, top_logprobs=2)
    _, answer, _ = chat.ask(PATH, {**GREEDY, "logprobs": True, "top_logprobs": 2})
    content = answer["choices"][0]["logprobs"]["content"]
    assert [each["logprob"] for each in content] == expected.logprobs
    assert b"".join(bytes(each["bytes"]) for each in content).decode() == expected.text
    for each, row in zip(content, expected.alternatives, strict=True):
        assert [top["logprob"] for top in each["top_logprobs"]] == [a.logprob for a in row]


@pytest.mark.parametrize(
    "fields", [{}, {"temperature": 1, "seed": 4, "n": 2}, {"logprobs": True, "stop": "os"}]
)
def test_a_stream_is_the_whole_answer(chat: Running, fields: dict[str, Any]) -> None:
    body = {**GREEDY, **fields}
    _, whole, _ = chat.ask(PATH, body)
    frames = chat.frames(PATH, {**body, "stream_options": {"include_usage": True}})
    assert frames[-1] == "[DONE]"
    assert frames[-2]["usage"] == whole["usage"]
    for choice in whole["choices"]:
        pieces = [
            f["choices"][0] for f in frames[:-2] if f["choices"][0]["index"] == choice["index"]
        ]
        assert pieces[0]["delta"] == {"role": "assistant"}
        text = "".join(piece["delta"].get("content", "") for piece in pieces)
        assert text == choice["message"]["content"]
        assert (pieces[-1]["delta"], pieces[-1]["finish_reason"]) == ({}, choice["finish_reason"])
        listed = [each for p in pieces for each in (p["logprobs"] or {"content": []})["content"]]
        assert listed == (choice["logprobs"] or {"content": []})["content"]


def test_a_schema(chat: Running) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    _, answer, _ = chat.ask(PATH, {**GREEDY, "response_format": form})
    assert json.loads(answer["choices"][0]["message"]["content"]).keys() == {"a"}


def test_a_message_goes_on_from_within(chat: Running, model: Model) -> None:
    written = model.generate(PROMPT, max_new_tokens=12)
    body = {**GREEDY, "prefill_ids": written.token_ids[:5]}
    _, answer, _ = chat.ask(PATH, body)
    rest = model.generate(PROMPT, max_new_tokens=12, prefill_ids=written.token_ids[:5])
    assert answer["choices"][0]["message"]["content"] == rest.text
    assert written.text.endswith(rest.text)
    *frames, _ = chat.frames(PATH, {**body, "max_tokens": 5})
    assert [each["choices"][0]["delta"] for each in frames] == [{"role": "assistant"}]
    assert frames[0]["choices"][0]["finish_reason"] == "length"


def test_as_long_as_the_model(chat: Running) -> None:
    long = [{"role": "user", "content": "import os\n" * 220}]
    body = {"model": "chat", "messages": long, "temperature": 0, "eos_token_id": []}
    _, answer, _ = chat.ask(PATH, body)
    positions = chat.models[0].model.decoder.n_positions
    assert answer["usage"]["total_tokens"] == positions


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"model": "plain"}, "model", "has no chat template"),
        ({"tools": []}, "tools", "isn't served"),
        ({"tool_choice": "auto"}, "tool_choice", "isn't served"),
        ({"messages": []}, "messages", "expected 1 to"),
        ({"messages": [3]}, "messages", "expected an object"),
        (
            {"messages": [{"role": "robot", "content": "x"}]},
            "messages",
            "role is 'robot': expected system,",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages",
            "isn't text",
        ),
        ({"top_logprobs": 2}, "top_logprobs", "without logprobs"),
        ({"logprobs": 2}, "logprobs", "true or false"),
        ({"response_format": {"type": "xml"}}, "response_format", "expected text, json_object"),
        ({"max_completion_tokens": 3}, "max_tokens", "leave one out"),
    ],
)
def test_what_is_refused(chat: Running, fields: dict[str, Any], param: str, message: str) -> None:
    status, answer, _ = chat.ask(PATH, {**GREEDY, **fields})
    assert (status, answer["error"]["param"]) == (400, param), answer
    assert message in answer["error"]["message"]


SPECIAL = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}:"


@pytest.mark.parametrize("form", ["file", "settings", "several"])
def test_from_export_to_answer(tmp_path: Path, form: str) -> None:
    checkpoint, folder = make_checkpoint(tmp_path / "checkpoint"), tmp_path / "model"
    settings: dict[str, Any] = {"bos_token": END_OF_TEXT}
    if form == "file":
        (checkpoint / "chat_template.jinja").write_text(SPECIAL, encoding="utf-8")
        settings["chat_template"] = "{{ 'the file goes first' }}"
    elif form == "settings":
        settings["chat_template"] = SPECIAL
    else:
        named = {"default": SPECIAL, "tool_use": "x"}
        settings["chat_template"] = [{"name": n, "template": t} for n, t in named.items()]
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    gpt2onnx.export(checkpoint, folder, verify=False)
    model = gpt2onnx.load(folder, threads=1)
    body = {"messages": [{"role": "user", "content": "hé\n"}], "temperature": 0, "max_tokens": 5}
    with serving({"chat": model}) as running:
        status, answer, _ = running.ask(PATH, body)
    expected = model.generate([256, *model.token_ids("hé\n:").tolist()], max_new_tokens=5)
    assert status == 200, answer
    assert answer["choices"][0]["message"]["content"] == expected.text
    assert answer["usage"]["prompt_tokens"] == len(expected.prompt_token_ids)


# --- templates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ messages[7].role.x }}",
    ],
)
def test_a_template_gets_at_nothing_else(source: str) -> None:
    with pytest.raises(RequestError, match="refuses the messages"):
        ChatTemplate(source, {}, Path("x")).render([{"role": "user", "content": "x"}], True)


def test_damaged_templates(tmp_path: Path) -> None:
    assert find_template(tmp_path) is None
    file = tmp_path / "tokenizer_config.json"
    file.write_text('{"chat_template": [{"name": "default", "template": "{{ 1 }}"}]}')
    template = find_template(tmp_path)
    assert template
    assert template.render([], True) == "1"
    for content in ('{"chat_template": "{% if"}', '{"chat_template": 3}', "{"):
        file.write_text(content)
        with pytest.raises(ModelFolderError):
            find_template(tmp_path)
