"""/v1/commands: each command asks for what the request asks for."""

from __future__ import annotations

import ast
import inspect
import json
import shlex
import subprocess
from typing import Any

import pytest
from openai.resources import Completions

from gpt2onnx import Model
from gpt2onnx.cli.commands import generate
from gpt2onnx.cli.options.parameters import KINDS, given_parameters
from gpt2onnx.samplers.params.table import PARAMETERS
from gpt2onnx.server.commands import COMMANDS
from gpt2onnx.server.sampling import parameters_of
from tests.server.conftest import Running

PATH = "/v1/commands"
SCHEMA = {"type": "object", "properties": {"é": {"enum": ["a'b", 1, None, True]}}}
REQUESTS: list[dict[str, Any]] = [
    {"temperature": 0, "top_p": 0.5},
    {"temperature": 0.5, "seed": 7, "min_p": 1e-5, "top_k": 40},
    {"do_sample": False, "eos_token_id": []},
    {"stop": ["\n\n", "it's", "--x"], "eos_token_id": [1, 2]},
    {"stop": "-", "eos_token_id": 5},
    {"overflow": "slide", "sampler_order": ["top_k", "temperature"], "top_k": 5},
    {"num_beams": 3, "early_stopping": "never", "force_words_ids": [[5], [[7, 9], [8]]]},
    {"num_beams": 2, "early_stopping": True, "bad_words_ids": [[1], [2, 3]]},
    {"logit_bias": {"5": -1.5, "6": 2}, "suppress_tokens": [3], "forced_bos_token_id": 4},
    {"guidance_scale": 1.5, "negative_prompt": "-no\n"},
    {"regex": r"-[a-z]+\$'\"", "dry_multiplier": 0.5, "dry_sequence_breakers": ["\n", " "]},
    {"json_schema": SCHEMA, "json_layout": "compact"},
    {"json_schema": json.dumps({"enum": [1]})},
    {"response_format": {"type": "json_object"}},
    {"grammar": 'start: "a" /b+/\n'},
    {"choices": ["yes", "no\n"]},
]


def commands(server: Running, **body: Any) -> dict[str, str]:
    status, answer, _ = server.ask(PATH, {"model": "demo", "prompt": "x", **body})
    assert status == 200, answer
    return dict(answer)


@pytest.mark.parametrize("request_", REQUESTS)
def test_each_asks_for_the_same(server: Running, model: Model, request_: dict[str, Any]) -> None:
    expected = parameters_of(COMMANDS.form.read(request_), model.defaults) | {"max_new_tokens": 9}
    negative = request_.get("negative_prompt")
    found = commands(server, max_tokens=9, prompt="-it's\n é", **request_)

    program, command, *words = words_of(found["gpt2onnx"])
    assert (program, command) == ("gpt2onnx", "generate")
    args = generate.parser().parse_args(words)
    assert (args.text, args.model, args.negative_prompt) == ("-it's\n é", "demo", negative)
    assert model.params(given_parameters(args)) == model.params(expected)

    arguments = keywords(found["gpt2onnx-python"], "generate")
    assert arguments.pop("negative_prompt", None) == negative
    assert model.params(arguments) == model.params(expected)

    asked = {"model": "demo", "prompt": "-it's\n é", "max_tokens": 9, **request_}
    if isinstance(asked.get("json_schema"), str):
        asked["json_schema"] = json.loads(asked["json_schema"])
    arguments = keywords(found["python"], "create")
    assert arguments.pop("extra_body", {}) | arguments == asked
    assert arguments.keys() <= inspect.signature(Completions.create).parameters.keys()

    curl, url, option, content = words_of(found["curl"])
    assert (curl, url, option) == ("curl", f"{server.url}/v1/completions", "--json")
    assert json.loads(content) == asked


def words_of(command: str) -> list[str]:
    """As a shell reads them; shlex knows no lines that go on."""
    return shlex.split(command.replace(" \\\n", " "))


def keywords(program: str, function: str) -> dict[str, Any]:
    """A call's arguments by keyword."""
    calls = [each for each in ast.walk(ast.parse(program)) if isinstance(each, ast.Call)]
    (call,) = [each for each in calls if getattr(each.func, "attr", "") == function]
    return {each.arg or "": ast.literal_eval(each.value) for each in call.keywords}


def test_every_kind_can_be_written() -> None:
    asked = {name for request in REQUESTS for name in request} | {"stop_strings"}
    kinds = {PARAMETERS[name].kind for name in asked if name in PARAMETERS}
    assert kinds | {"integer"} == {*KINDS}


@pytest.mark.parametrize("prompt", ["-", "--", "a\n'\\\n", "$HOME `x` \\", "", "#"])
def test_the_shell_reads_the_prompt_as_it_is(server: Running, prompt: str) -> None:
    command = commands(server, prompt=prompt)["gpt2onnx"]
    shell = f'gpt2onnx() {{ printf %s\\\\0 "${{@: -1}}"; [ -t 0 ] || cat; }}; {command}'
    done = subprocess.run(
        ["bash", "-c", shell], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    assert done.stdout.decode() == f"{prompt}\0" + ("-" if prompt == "-" else "")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"top_k": -1}, "top_k"),
        ({"stream": True}, "stream"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"dry_multiplier": 1, "dry_sequence_breakers": [5]}, "dry_sequence_breakers"),
    ],
)
def test_what_cant_be_said_is_refused(server: Running, body: dict[str, Any], param: str) -> None:
    status, answer, _ = server.ask(PATH, {"model": "demo", "prompt": "x", **body})
    assert (status, answer["error"]["param"]) == (400, param)


def test_the_page_s_own_address_is_in_them(server: Running) -> None:
    body = {"model": "demo", "prompt": "x"}
    _, answer, _ = server.ask(PATH, body, headers={"Origin": "https://models.example"})
    assert "curl https://models.example/v1/completions " in answer["curl"]
    assert 'base_url="https://models.example/v1"' in answer["python"]
