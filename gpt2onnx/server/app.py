"""The application: its endpoints, and the gate before them."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import gpt2onnx
from gpt2onnx.errors import Gpt2OnnxError, RequestError
from gpt2onnx.server.beams import BEAMS
from gpt2onnx.server.chat import CHAT
from gpt2onnx.server.commands import COMMANDS
from gpt2onnx.server.completions import COMPLETIONS
from gpt2onnx.server.embeddings import EMBEDDINGS
from gpt2onnx.server.failures import as_request_error, error_response
from gpt2onnx.server.gate import Gate
from gpt2onnx.server.json_answer import JsonAnswer
from gpt2onnx.server.keys import Keys
from gpt2onnx.server.metrics import Metrics
from gpt2onnx.server.openapi import Lookup, document
from gpt2onnx.server.places import Places
from gpt2onnx.server.playground import FOLDER, playground, playground_file
from gpt2onnx.server.schemas import INTEGER, STRING, array_of, constant, record
from gpt2onnx.server.served import ServedModels
from gpt2onnx.server.tokens import DETOKENIZE, SCORE, TOKENIZE

ENDPOINTS = (COMPLETIONS, CHAT, BEAMS, COMMANDS, EMBEDDINGS, SCORE, TOKENIZE, DETOKENIZE)

_SOME_MODEL = record(
    id=STRING, object=constant("model"), created=INTEGER, owned_by=STRING, max_model_len=INTEGER
)
_SOME_STATUS = record(status=STRING)


@dataclass(frozen=True)
class Rules:
    """Who may ask, and for how much."""

    keys: Keys | None = None
    hosts: tuple[str, ...] = ()  # of the Host header; all where there are none
    most_of_key: int | None = None  # requests of a key at once
    queue_timeout: float | None = None  # seconds that a request may wait


def make_app(models: ServedModels, rules: Rules) -> Gate:
    """The application. `gate.is_draining = True` has it take no more requests."""
    routes = [
        Route("/", playground),
        Route(f"{FOLDER}{{name}}", playground_file),
        *(Route(each.path, each.respond, methods=["POST"]) for each in ENDPOINTS),
        *(Route(each.path.replace("{name}", "{name:path}"), each.respond) for each in LOOKUPS),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _http, Gpt2OnnxError: _refused, Exception: _refused},
    )
    metrics = Metrics(models, frozenset(route.path for route in routes))
    gate = Gate(app, rules.keys, rules.hosts, rules.most_of_key, metrics.observe)
    app.state.models, app.state.metrics, app.state.gate = models, metrics, gate
    app.state.places = Places(models)
    app.state.queue_timeout = rules.queue_timeout
    app.state.document = document(ENDPOINTS, LOOKUPS, rules.keys is not None)
    return gate


async def _models(request: Request) -> Response:
    models: ServedModels = request.app.state.models
    return JsonAnswer({"object": "list", "data": [each.listed() for each in models]})


async def _model(request: Request) -> Response:
    models: ServedModels = request.app.state.models
    return JsonAnswer(models.find(request.path_params["name"]).listed())


async def _tokenizer_info(request: Request) -> Response:
    models: ServedModels = request.app.state.models
    return JsonAnswer(models.find(request.query_params.get("model")).tokenizer_info)


async def _health(request: Request) -> Response:
    return JsonAnswer({"status": "ok"})


async def _ready(request: Request) -> Response:
    if request.app.state.gate.is_draining:
        error = RequestError("the server is shutting down", 503, code="shutting_down")
        return error_response(error)
    return JsonAnswer({"status": "ready"})


async def _version(request: Request) -> Response:
    return JsonAnswer({"version": gpt2onnx.__version__})


async def _metrics(request: Request) -> Response:
    content = request.app.state.metrics.text()
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _openapi(request: Request) -> Response:
    return JsonAnswer(request.app.state.document)


async def _http(request: Request, error: Exception) -> Response:
    """What Starlette says: no such path, no such method."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path[:200]
    told = RequestError(f"{method} {path}: {error.detail}", error.status_code, code="not_found")
    response = error_response(told)
    response.headers.update(error.headers or {})
    return response


async def _refused(request: Request, error: Exception) -> Response:
    """What is no error of ours is a bug: uvicorn logs it."""
    return error_response(as_request_error(error))


LOOKUPS = (
    Lookup(
        "/v1/models",
        "What is served.",
        _models,
        record(object=constant("list"), data=array_of(_SOME_MODEL)),
    ),
    Lookup("/v1/models/{name}", "One of them.", _model, _SOME_MODEL),
    Lookup(
        "/tokenizer_info",
        "The settings of a model's tokenizer, as vLLM tells them.",
        _tokenizer_info,
        {"type": "object", "properties": {"tokenizer_class": STRING}},
        query=("model",),
        refusals=(400, 401, 403, 404),
    ),
    Lookup("/health", "Whether it is alive.", _health, _SOME_STATUS, refusals=(403,)),
    Lookup("/ready", "Whether it takes requests.", _ready, _SOME_STATUS, refusals=(403, 503)),
    Lookup("/version", "The package's version.", _version, record(version=STRING)),
    Lookup("/metrics", "What it does and has done, for Prometheus.", _metrics),
    Lookup("/openapi.json", "This description.", _openapi, {"type": "object"}),
)
