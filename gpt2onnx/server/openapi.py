"""/openapi.json: what the endpoints take and give, from the tables that they are made of.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import http
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

import gpt2onnx
from gpt2onnx.server.endpoint import Endpoint, EngineEndpoint
from gpt2onnx.server.schemas import ERROR, STRING, Schema

_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_EVENT: Schema = {
    "type": "object",
    "description": "Each event's data is such an object, with a part of the answer; of the last "
    "one it is [DONE].",
    "properties": {"data": STRING},
    "required": ["data"],
}
# What may come of every request, and what of those with a body.
_REFUSALS = (401, 403, 404)
_BODY_REFUSALS = (400, *_REFUSALS, 408, 413, 415, 422, 429, 501, 503)


@dataclass(frozen=True)
class Lookup:
    """A path that takes nothing but its name, and answers at once."""

    path: str  # as OpenAPI writes it; {name} may hold slashes
    summary: str
    respond: Callable[[Request], Awaitable[Response]]
    answer: Schema | None = None  # None is text
    query: tuple[str, ...] = ()
    refusals: tuple[int, ...] = _REFUSALS


def document(
    endpoints: Sequence[Endpoint], lookups: Sequence[Lookup], has_keys: bool
) -> dict[str, Any]:
    """The description of a server."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "gpt2onnx", "version": gpt2onnx.__version__},
        "paths": {
            **{each.path: {"post": _post(each)} for each in endpoints},
            **{each.path: {"get": _get(each)} for each in lookups},
        },
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}} if has_keys else {},
        },
        "security": [{"key": []}] if has_keys else [],
    }


def _post(endpoint: Endpoint) -> dict[str, Any]:
    content = {"application/json": {"schema": endpoint.answer_schema}}
    if isinstance(endpoint, EngineEndpoint) and endpoint.objects:
        content["text/event-stream"] = {"schema": _EVENT}
    body = {"application/json": {"schema": endpoint.form.schema()}}
    return {
        "summary": endpoint.summary,
        "requestBody": {"required": True, "content": body},
        "responses": _responses(content, _BODY_REFUSALS),
    }


def _get(lookup: Lookup) -> dict[str, Any]:
    content = {"text/plain": {"schema": STRING}}
    if lookup.answer is not None:
        content = {"application/json": {"schema": lookup.answer}}
    path = ["name"] if "{name}" in lookup.path else []
    return {
        "summary": lookup.summary,
        "parameters": [
            *({"name": n, "in": "path", "required": True, "schema": STRING} for n in path),
            *({"name": n, "in": "query", "schema": STRING} for n in lookup.query),
        ],
        "responses": _responses(content, lookup.refusals),
    }


def _responses(content: dict[str, Any], refusals: Sequence[int]) -> dict[str, Any]:
    told = {status: http.HTTPStatus(status).phrase for status in refusals}
    return {
        "200": {"description": "The answer.", "content": content},
        **{str(n): {"description": why, "content": _ERROR} for n, why in told.items()},
    }
