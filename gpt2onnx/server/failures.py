"""What went wrong, as a status and OpenAI's error object.

https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from gpt2onnx.errors import (
    EngineClosedError,
    Given,
    Gpt2OnnxError,
    InstallationError,
    OutOfMemoryError,
    ParameterError,
    PromptError,
    QueueFullError,
    RequestCancelledError,
    RequestError,
    RequestExpiredError,
    one_line,
)

# The most characters of a message: values that a client sent may be longer.
LONGEST = 1000
# GenerationParams' names, as OpenAI's clients say them.
FIELDS = {
    "max_new_tokens": "max_tokens",
    "num_return_sequences": "n",
    "stop_strings": "stop",
    "top_logprobs": "logprobs",
}
# What the server can't help now, and how many seconds later it may.
_LATER = {
    QueueFullError: ("queue_full", 1),
    RequestExpiredError: ("queue_timeout", 5),
    EngineClosedError: ("shutting_down", 5),
    OutOfMemoryError: ("out_of_memory", 5),
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
CLIENT_LEFT = 499  # nginx's; nobody reads it


def as_request_error(error: Exception) -> RequestError:
    """An error with the status that it has to a client."""
    if isinstance(error, RequestError):
        return error
    for kind, (code, seconds) in _LATER.items():
        if isinstance(error, kind):
            return RequestError(str(error), 503, code=code, retry_after=seconds)
    if isinstance(error, ParameterError):
        return RequestError(_in_fields(error), param=_param(error), code="invalid_value")
    if isinstance(error, PromptError):
        return RequestError(str(error), param="prompt", code="invalid_prompt")
    if isinstance(error, RequestCancelledError):
        return RequestError(str(error), CLIENT_LEFT, code="cancelled")
    if isinstance(error, InstallationError):
        return RequestError(str(error), 501, code="not_installed")
    message = str(error) if isinstance(error, Gpt2OnnxError) else "the server failed; see its log"
    return RequestError(message, 500, code="internal_error")


def error_object(error: RequestError) -> dict[str, Any]:
    """OpenAI's object: {"error": {message, type, param, code}}."""
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": _shortened(one_line(str(error))),
            "type": _TYPES.get(error.status, kind),
            "param": error.param,
            "code": error.code,
        }
    }


def error_response(error: RequestError) -> Response:
    """The answer that tells of an error."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    content = msgspec.json.encode(error_object(error))
    return Response(content, error.status, headers, "application/json")


def _in_fields(error: ParameterError) -> str:
    return "".join(
        str(Given(FIELDS.get(part.name, part.name), part.value))
        if isinstance(part, Given) and not part.alone
        else FIELDS.get(str(part), str(part))
        for part in error.parts
    )


def _param(error: ParameterError) -> str | None:
    names = [FIELDS.get(part.name, part.name) for part in error.parts if isinstance(part, Given)]
    return names[0] if names else None


def _shortened(message: str) -> str:
    if len(message) <= LONGEST:
        return message
    return f"{message[: LONGEST // 2]} … {message[-LONGEST // 2 :]}"
