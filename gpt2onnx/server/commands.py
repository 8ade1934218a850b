"""POST /v1/commands: a request to /v1/completions as commands to run: curl, Python, gpt2onnx.

The server writes them, since it knows what a request's fields come to. Knows how each kind of
parameter is written on gpt2onnx' command line.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from gpt2onnx.samplers.params.table import PARAMETERS
from gpt2onnx.server.asked import TEXT_FIELDS
from gpt2onnx.server.completions import DEFAULT_MAX_TOKENS
from gpt2onnx.server.endpoint import Endpoint
from gpt2onnx.server.fields import Form, refusal, text
from gpt2onnx.server.json_answer import JsonAnswer
from gpt2onnx.server.sampling import PARAMETER_FIELDS, length_fields, parameters_of, take_length
from gpt2onnx.server.schemas import STRING, record
from gpt2onnx.server.served import MODEL, Served

# openai's completions.create has them; the rest are extra_body.
_OPENAI = (
    *("model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "best_of"),
    *("frequency_penalty", "presence_penalty", "logit_bias"),
)
_FORM = Form(
    {
        "model": MODEL,
        **PARAMETER_FIELDS,
        **length_fields("max_tokens"),
        "prompt": text("The text that is gone on from."),
        "negative_prompt": TEXT_FIELDS["negative_prompt"],
    },
    refused=dict.fromkeys(("n", "num_return_sequences"), "the commands print one text"),
)
_ANSWER = record(**dict.fromkeys(("curl", "python", "gpt2onnx", "gpt2onnx-python"), STRING))


@dataclass(frozen=True)
class _Commands(Endpoint):
    """It knows how it is asked, too: that is how the commands ask."""

    prompt: str = "prompt"

    async def _respond(self, request: Request) -> Response:
        origin = request.headers.get("origin") or str(request.base_url).rstrip("/")
        has_key = request.scope.get("gpt2onnx.tenant") is not None
        return JsonAnswer(await self.read(request, partial(_commands, origin, has_key)))


def _commands(origin: str, has_key: bool, served: Served, fields: dict[str, Any]) -> dict[str, str]:
    """The commands, each of which prints the text, or has it in what it prints."""
    asked = {"model": served.name, **fields}
    length = take_length(fields, ("max_tokens",), DEFAULT_MAX_TOKENS)
    parameters = parameters_of(fields, served.model.defaults)
    if length is not None:
        parameters["max_new_tokens"] = length
    params = served.model.params(parameters)
    if "json_schema" in asked:  # which may be text
        asked["json_schema"] = parameters["json_schema"] = json.loads(str(params.json_schema))
    if "negative_prompt" in fields:
        parameters["negative_prompt"] = fields["negative_prompt"]
    prompt = fields.get("prompt", "")
    return {
        "curl": _curl(asked, origin, has_key),
        "python": _openai(asked, origin, has_key),
        "gpt2onnx": command_line(served.name, prompt, parameters),
        "gpt2onnx-python": _library(served.name, prompt, parameters),
    }


def _curl(asked: Mapping[str, Any], origin: str, has_key: bool) -> str:
    """No key is copied: it is in the environment, where openai's client looks for it, too."""
    key = ['-H "Authorization: Bearer $OPENAI_API_KEY"'] if has_key else []
    content = shlex.quote(json.dumps(asked, ensure_ascii=False))
    return _lines([f"curl {shlex.quote(origin + '/v1/completions')}", *key, f"--json {content}"])


def _openai(asked: Mapping[str, Any], origin: str, has_key: bool) -> str:
    arguments = {name: asked[name] for name in _OPENAI if name in asked}
    if extra := {name: value for name, value in asked.items() if name not in _OPENAI}:
        arguments["extra_body"] = extra
    key = "" if has_key else ', api_key="none"'
    return (
        f"import openai\n\nclient = openai.OpenAI(base_url={_literal(origin + '/v1')}{key})\n"
        f"answer = {_call('client.completions.create', arguments)}\n"
        "print(answer.choices[0].text)\n"
    )


def _library(model: str, prompt: str, parameters: Mapping[str, Any]) -> str:
    call = _call("model.generate", parameters, prompt)
    return (
        f"import gpt2onnx\n\nmodel = gpt2onnx.load({_literal(model)})\n"
        f"answer = {call}\nprint(answer.text)\n"
    )


def command_line(model: str, prompt: str, parameters: Mapping[str, Any]) -> str:
    """`gpt2onnx generate` with the same parameters."""
    words = [f"--model={model}"]
    for name, value in parameters.items():
        words += _options(name, value)
    text = "-" if prompt == "-" else f"-- {shlex.quote(prompt)}"
    pipe = "printf %s - | " if prompt == "-" else ""  # which is standard input's name
    return _lines([f"{pipe}gpt2onnx generate", *map(shlex.quote, words), text])


def _options(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    kind = PARAMETERS[name].kind if name in PARAMETERS else "regex"  # a plain text
    if kind == "flag":
        return [f"--{option}" if value else f"--no-{option}"]
    try:
        return [f"--{option}={text}" for text in _WRITTEN[kind](value)]
    except TypeError:
        raise refusal(name, "can't be said on a command line; leave it out") from None


def _joined(sign: str, write: Callable[[Any], str] = str) -> Callable[[Any], str]:
    return lambda values: sign.join(map(write, values))


def _one_or(several: Callable[[Any], str]) -> Callable[[Any], str]:
    """A number as it is, a list as `several` writes it."""
    return lambda value: several(value) if isinstance(value, list) else str(value)


def _alone(write: Callable[[Any], str]) -> Callable[[Any], list[str]]:
    return lambda value: [write(value)]


def _texts(value: Any) -> list[str]:
    """One option each. Token ids are no texts: raises TypeError."""
    texts = [value] if isinstance(value, str) else list(value)
    if not all(isinstance(each, str) for each in texts):
        raise TypeError
    return texts


_IDS = _one_or(_joined(","))
# The inverse of the command line's KINDS: how a value's options are written.
_WRITTEN: Final[Mapping[str, Callable[[Any], list[str]]]] = {
    "integer": _alone(str),
    "number": _alone(str),
    "choice": _alone(str),
    "regex": _alone(str),
    "grammar": _alone(str),
    "token": _alone(str),
    "early_stopping": _alone(lambda value: str(value).lower()),
    "schema": _alone(lambda value: value if isinstance(value, str) else json.dumps(value)),
    "names": _alone(_joined(",")),
    "tokens": _alone(_IDS),
    "words": _alone(_joined(";", _IDS)),
    "phrases": _alone(
        _joined(";", lambda one: _joined("|", _IDS)(one) if isinstance(one[0], list) else _IDS(one))
    ),
    "texts": _texts,
    "biases": lambda value: [f"{token}={bias}" for token, bias in value.items()],
}


def _lines(parts: list[str]) -> str:
    """A shell command, a part on each line."""
    return " \\\n  ".join(parts) + "\n"


def _call(function: str, arguments: Mapping[str, Any], *first: Any) -> str:
    """A call in Python, an argument on each line."""
    written = [*map(_literal, first)]
    written += [f"{name}={_literal(value)}" for name, value in arguments.items()]
    return f"{function}(\n" + "".join(f"    {each},\n" for each in written) + ")"


def _literal(value: Any) -> str:
    """A value of JSON in Python. JSON's strings are Python's."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        members = (f"{_literal(name)}: {_literal(each)}" for name, each in value.items())
        return f"{{{', '.join(members)}}}"
    return repr(value)


COMMANDS = _Commands(
    "/v1/commands",
    "A request for text as commands to run.",
    _FORM,
    _ANSWER,
)
