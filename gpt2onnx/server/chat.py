"""POST /v1/chat/completions: a conversation goes on, by the model's own chat template.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

from gpt2onnx.errors import RequestError, shown
from gpt2onnx.runtime.decoding.results import Alternative, Generation, Token
from gpt2onnx.server.asked import (
    MOST_LOGPROBS,
    TEXT_FIELDS,
    Asked,
    Options,
    Prepared,
    finish_reason,
    head_schema,
    prepared,
    usage,
)
from gpt2onnx.server.endpoint import EngineEndpoint
from gpt2onnx.server.fields import (
    Form,
    anything,
    array,
    flag,
    integer,
    nested,
    one_of,
    refusal,
    text,
)
from gpt2onnx.server.sampling import length_fields, take_length
from gpt2onnx.server.schemas import (
    FINISH_REASON,
    INTEGER,
    NUMBER,
    STRING,
    USAGE,
    Schema,
    array_of,
    constant,
    or_null,
    record,
)
from gpt2onnx.server.served import Served

MOST_MESSAGES = 1000
_LENGTHS = ("max_completion_tokens", "max_tokens")
_NO_TOOLS = "models of this family call no tools"
_PART: Final[Schema] = {
    "type": "object",
    "properties": {"type": constant("text"), "text": STRING},
    "required": ["type", "text"],
}
_MESSAGE = nested(
    Form(
        {
            "role": one_of(("system", "developer", "user", "assistant"), "Who speaks."),
            "content": anything(
                "a string, or text parts",
                "A text, or a list of text parts.",
                anyOf=[STRING, array_of(_PART)],
            ),
            "name": text("The speaker's name."),
        },
        refused={"tool_calls": _NO_TOOLS, "function_call": _NO_TOOLS},
        ignored=(),
        required=("role", "content"),
    ),
    "A message.",
)
_FORM = Form(
    {
        **TEXT_FIELDS,
        **length_fields(*_LENGTHS),
        "messages": array(
            "The conversation.",
            items=_MESSAGE.schema,
            minItems=1,
            maxItems=MOST_MESSAGES,
        ),
        "logprobs": flag("List each token's log-probability."),
        "top_logprobs": integer(0, MOST_LOGPROBS, "How many others to list beside each token."),
    },
    refused={
        **dict.fromkeys(
            ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
            _NO_TOOLS,
        ),
        **dict.fromkeys(("audio", "modalities", "prediction"), "text alone is written"),
        "web_search_options": "nothing is looked up",
        "reasoning_effort": "models of this family don't reason apart from their answer",
        "verbosity": "models of this family weren't taught it",
        "draft": "the server's own choice",
    },
    required=("messages",),
)

_NAMED: Final = {"token": STRING, "logprob": NUMBER, "bytes": array_of(INTEGER)}
_LOGPROBS = record(
    content=array_of(record(**_NAMED, top_logprobs=array_of(record(**_NAMED)))),
    refusal={"type": "null"},
)
_CHOICE = record(
    index=INTEGER,
    message=record(role=constant("assistant"), content=STRING, refusal={"type": "null"}),
    logprobs=or_null(_LOGPROBS),
    finish_reason=FINISH_REASON,
)
_ANSWER = record(**head_schema("chat.completion"), choices=array_of(_CHOICE), usage=USAGE)


def _prepare(served: Served, fields: dict[str, Any]) -> Prepared:
    prompt = _prompt(served, fields["messages"])
    logprobs, top = fields["logprobs"], fields.get("top_logprobs")
    if top is not None and not logprobs:
        raise refusal("top_logprobs", "has no effect without logprobs: set that, or leave it out")
    options = Options.of(fields, (top or 0) if logprobs else None)
    length = take_length(fields, _LENGTHS, None)
    if length == 0:
        raise refusal("max_completion_tokens", "is 0: expected at least 1")
    if length is None and "max_length" not in fields:
        length = _rest(served, prompt)
    return prepared(served, [prompt], fields, options, length)


def _prompt(served: Served, messages: list[Any]) -> str:
    """The messages as the model's template writes them."""
    if not 0 < len(messages) <= MOST_MESSAGES:
        raise refusal("messages", f"has {len(messages)}: expected 1 to {MOST_MESSAGES}")
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
    """A message's role and text, and the speaker's name if there is one."""
    fields: dict[str, Any] = _MESSAGE.check("messages", given)
    return fields | {"content": _text(fields["content"])}


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
    if len(begun) < asked.count:
        for choice in _whole_before(asked, await asked.handle, begun):
            yield {**head, "choices": [choice], **more}
    if asked.options.include_usage:
        yield {**head, "choices": [], "usage": usage(asked.groups(await asked.handle))}


def _whole_before(asked: Asked, results: Any, begun: set[int]) -> list[dict[str, Any]]:
    """The ends of messages that were whole before their first token."""
    (group,) = asked.groups(results)
    return [
        {
            "index": index,
            "delta": {"role": "assistant"},
            "logprobs": None,
            "finish_reason": finish_reason(each.finish_reason),
        }
        for index, each in enumerate(group)
        if index not in begun
    ]


def _deltas(token: Token, begun: set[int]) -> list[dict[str, str]]:
    """What a token adds to its message: {} ends it."""
    deltas: list[dict[str, str]] = [{"content": token.text}]
    if token.sequence not in begun:
        begun.add(token.sequence)
        deltas.insert(0, {"role": "assistant"})
    if token.finish_reason:
        deltas.append({})
    return deltas


CHAT = EngineEndpoint(
    "/v1/chat/completions",
    "What a conversation goes on with.",
    _FORM,
    _ANSWER,
    _prepare,
    _whole,
    _objects,
    "messages",
)
