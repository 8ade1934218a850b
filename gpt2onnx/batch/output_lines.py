"""Lines of the output, as OpenAI's batches have them; an error has its line's number, too.

https://platform.openai.com/docs/api-reference/batch/request-output
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from gpt2onnx.batch.records import Kind, Record
from gpt2onnx.batch.requests import Asked
from gpt2onnx.errors import RequestError
from gpt2onnx.server.failures import error_object


def answer_line(asked: Asked, status: int, body: dict[str, Any]) -> Record:
    """The record of what was answered; it is an error where the status says so."""
    if status != 200:
        return _record(asked.number, asked.custom_id, status, body)
    counts = body.get("usage", {})
    read, written = counts.get("prompt_tokens", 0), counts.get("completion_tokens", 0)
    answer = _record(asked.number, asked.custom_id, status, body)
    return answer._replace(kind=Kind.ANSWER, read=read, written=written)


def error_line(number: int, custom_id: str | None, error: RequestError) -> Record:
    """The record of a line that was refused, or failed."""
    return _record(number, custom_id, error.status, error_object(error))


def _record(number: int, custom_id: str | None, status: int, body: dict[str, Any]) -> Record:
    named = f"line-{number}" if custom_id is None else custom_id
    digest = hashlib.sha256(named.encode()).hexdigest()[:24]
    error = None
    if status != 200:
        told = body.get("error", {})
        error = {"code": told.get("code"), "message": told.get("message"), "line": number}
    line = {
        "id": f"batch_req_{digest}",
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": digest, "body": body},
        "error": error,
    }
    return Record(number, Kind.ERROR, msgspec.json.encode(line))
