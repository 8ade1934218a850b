"""POST /v1/chat/completions: a conversation goes on, by the model's own chat template.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from gpt2onnx.errors import RequestError, shown
from gpt2onnx.runtime.decoding.results import Alternative, Generation, Token
from gpt2onnx.server.asked import (
    MOST_LOGPROBS,
    Asked,
    Options,
    Terms,
    finish_reason,
    stream_options,
    submitted,
    usage,
)
from gpt2onnx.server.body import json_object
from gpt2onnx.server.event_stream import EventStream
from gpt2onnx.server.fields import Fields, refusal
from gpt2onnx.server.json_answer import JsonAnswer
from gpt2onnx.server.sampling import length_of
from gpt2onnx.server.served import Served, ServedModels
from gpt2onnx.server.taking import taken
from gpt2onnx.server.watching import watched

_NO_TOOLS = "models of this family call no tools"
_REFUSED = {
    **dict.fromkeys(
        ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"), _NO_TOOLS
    ),
    **dict.fromkeys(("audio", "modalities", "prediction"), "text alone is written"),
    "web_search_options": "nothing is looked up",
    "reasoning_effort": "models of this family don't reason apart from their answer",
    "verbosity": "models of this family weren't taught it",
    "draft": "the server's own choice",
}
MOST_MESSAGES = 1000


async def chat_completions(request: Request) -> Response:
    """Answers with whole messages, or streams them."""
    asked = await taken(request, take)
    if asked.options.stream:
        return EventStream(_objects(asked), asked.handle)
    async with watched(request.receive, asked.handle):
        results = await asked.handle
    return JsonAnswer(await to_thread.run_sync(partial(_whole, asked, results)))


def take(models: ServedModels, body: bytes, terms: Terms) -> Asked:
    """Understand a request, and have its engine take it. Raises what that raises."""
    fields = Fields(json_object(body), _REFUSED)
    served = models.find(fields.text("model"))
    prompt = _prompt(served, fields)
    stream, include_usage = stream_options(fields)
    logprobs = fields.flag("logprobs")
    top = fields.integer("top_logprobs", 0, MOST_LOGPROBS)
    if top is not None and not logprobs:
        raise refusal("top_logprobs", "has no effect without logprobs: set that, or leave it out")
    options = Options((top or 0) if logprobs else None, False, stream, include_usage)
    length = length_of(fields, ("max_completion_tokens", "max_tokens"), None)
    if length == 0:
        raise refusal("max_completion_tokens", "is 0: expected at least 1")
    if length is None and "max_length" not in fields:
        length = _rest(served, prompt)
    return submitted(served, [prompt], fields, options, length, terms)


def _prompt(served: Served, fields: Fields) -> str:
    """The messages as the model's template writes them."""
    messages = fields.array("messages")
    if not messages or len(messages) > MOST_MESSAGES:
        raise refusal("messages", f"has {len(messages or [])}: expected 1 to {MOST_MESSAGES}")
    read = [_message(each) for each in messages]
    if served.template is None:
        raise RequestError(
            f"the model {shown(served.name)} has no chat template (chat_template.jinja, or "
            "chat_template in tokenizer_config.json): use /v1/completions",
            param="model",
            code="no_chat_template",
        )
    return served.template.render(read, add_generation_prompt=True)


def _message(given: Any) -> dict[str, str]:
    """A message's role and text."""
    if not isinstance(given, dict):
        raise refusal("messages", f"holds {shown(given)}: expected objects")
    fields = Fields(given, {"tool_calls": _NO_TOOLS, "function_call": _NO_TOOLS})
    role, name, content = fields.text("role"), fields.text("name"), fields.take("content")
    fields.end()
    if role not in ("system", "developer", "user", "assistant"):
        raise refusal(
            "messages", f"has role {shown(role)}: expected system, developer, user or assistant"
        )
    message = {"role": role, "content": _text(content)}
    return message if name is None else {**message, "name": name}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    if not parts or not all(_is_text(part) for part in parts):
        raise refusal("messages", "has content that isn't text: expected a string, or text parts")
    return "".join(part["text"] for part in parts)


def _is_text(part: Any) -> bool:
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _rest(served: Served, prompt: str) -> int:
    """The positions that a prompt leaves, where nothing else bounds the answer."""
    used = len(served.model.prompt_ids(prompt))
    return max(1, served.model.decoder.n_positions - used)


def _whole(asked: Asked, results: Any) -> dict[str, Any]:
    """The answer as one object."""
    groups = asked.groups(results)
    choices = [_choice(asked, index, each) for index, each in enumerate(groups[0])]
    head = asked.head("chatcmpl", "chat.completion")
    return {**head, "choices": choices, "usage": usage(groups)}


def _choice(asked: Asked, index: int, written: Generation) -> dict[str, Any]:
    logprobs = None
    if asked.options.logprobs is not None:
        rows = written.alternatives or [()] * len(written.token_ids)
        triples = zip(written.token_ids, written.logprobs, rows, strict=True)
        logprobs = {"content": [_logprob(asked, *each) for each in triples], "refusal": None}
    return {
        "index": index,
        "message": {"role": "assistant", "content": written.text, "refusal": None},
        "logprobs": logprobs,
        "finish_reason": finish_reason(written.finish_reason),
    }


def _logprob(
    asked: Asked, token: int, logprob: float, row: Sequence[Alternative]
) -> dict[str, Any]:
    top = [_named(asked, each.id, each.logprob) for each in row]
    return {**_named(asked, token, logprob), "top_logprobs": top}


def _named(asked: Asked, token: int, logprob: float) -> dict[str, Any]:
    tokens = asked.served.tokens
    return {
        "token": tokens.name(token),
        "logprob": logprob,
        "bytes": list(tokens.bytes(token)),
    }


async def _objects(asked: Asked) -> AsyncGenerator[Mapping[str, Any], None]:
    """The answer in pieces: who speaks, then what comes, then why it ended."""
    head = asked.head("chatcmpl", "chat.completion.chunk")
    more = {"usage": None} if asked.options.include_usage else {}
    begun: set[int] = set()
    async for token in asked.handle:
        for delta in _deltas(token, begun):
            if delta.get("content") == "" and asked.options.logprobs is None:
                continue
            logprobs = None
            if asked.options.logprobs is not None and "content" in delta:
                listed = _logprob(asked, token.id, token.logprob, token.alternatives)
                logprobs = {"content": [listed], "refusal": None}
            choice = {"index": token.sequence, "delta": delta, "logprobs": logprobs}
            ended = None if delta else finish_reason(token.finish_reason)
            yield {**head, "choices": [{**choice, "finish_reason": ended}], **more}
    if asked.options.include_usage:
        yield {**head, "choices": [], "usage": usage(asked.groups(await asked.handle))}


def _deltas(token: Token, begun: set[int]) -> list[dict[str, str]]:
    """What a token adds to its message: {} ends it."""
    deltas: list[dict[str, str]] = [{"content": token.text}]
    if token.sequence not in begun:
        begun.add(token.sequence)
        deltas.insert(0, {"role": "assistant"})
    if token.finish_reason:
        deltas.append({})
    return deltas
