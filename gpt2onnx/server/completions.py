"""POST /v1/completions: texts that go on from prompts.

https://platform.openai.com/docs/api-reference/completions
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from anyio import to_thread

from gpt2onnx.runtime.decoding.results import Generation
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
from gpt2onnx.server.completion_logprobs import Listing
from gpt2onnx.server.endpoint import EngineEndpoint
from gpt2onnx.server.fields import Form, flag, integer
from gpt2onnx.server.prompts import prompts_field, prompts_of
from gpt2onnx.server.sampling import length_fields, take_length
from gpt2onnx.server.schemas import (
    FINISH_REASON,
    INTEGER,
    NUMBER,
    STRING,
    USAGE,
    array_of,
    map_of,
    or_null,
    record,
    with_optional,
)
from gpt2onnx.server.served import Served

DEFAULT_MAX_TOKENS = 16  # OpenAI's
_HEAD = ("cmpl", "text_completion")
_FORM = Form(
    {
        **TEXT_FIELDS,
        **length_fields("max_tokens"),
        "prompt": prompts_field("A text, token ids, or a list of either."),
        "echo": flag("Begin each text with its prompt."),
        "logprobs": integer(
            *(0, MOST_LOGPROBS),
            "List each token's log-probability, and those of so many others beside it.",
        ),
        "return_token_ids": flag("List each token's id, and the prompt's."),
    },
    refused={
        "suffix": "a GPT-2 writes on, it fills nothing in",
        "draft": "the server's own choice",
    },
)

_LISTS = record(
    tokens=array_of(STRING),
    token_logprobs=array_of(or_null(NUMBER)),
    top_logprobs=array_of(or_null(map_of(NUMBER))),
    text_offset=array_of(INTEGER),
)
_LOGPROBS = with_optional(_LISTS, top_token_ids=array_of(or_null(map_of(INTEGER))))
_CHOICE = with_optional(
    record(index=INTEGER, text=STRING, logprobs=or_null(_LOGPROBS), finish_reason=FINISH_REASON),
    prompt_token_ids=array_of(INTEGER),
    token_ids=array_of(INTEGER),
)
_ANSWER = record(**head_schema(_HEAD[1]), choices=array_of(_CHOICE), usage=USAGE)


def prepare(served: Served, fields: dict[str, Any]) -> Prepared:
    """Understand the fields of a request. Raises RequestError, ParameterError, PromptError."""
    options = Options.of(fields, fields.get("logprobs"), fields["echo"], fields["return_token_ids"])
    max_tokens = take_length(fields, ("max_tokens",), DEFAULT_MAX_TOKENS)
    return prepared(
        served, prompts_of("prompt", fields.get("prompt", "")), fields, options, max_tokens
    )


def whole(asked: Asked, results: Any) -> dict[str, Any]:
    """The answer as one object."""
    groups = asked.groups(results)
    choices = [
        _choice(asked, index * asked.count + place, each)
        for index, group in enumerate(groups)
        for place, each in enumerate(group)
    ]
    return {**asked.head(*_HEAD), "choices": choices, "usage": usage(groups)}


def _choice(asked: Asked, index: int, written: Generation) -> dict[str, Any]:
    prompt, logprobs = asked.prompt(index), asked.options.logprobs
    listed = None
    if logprobs is not None:
        listed = Listing(asked.served.tokens, logprobs, prompt, asked.options)
        listed.add_written(written)
    choice = {
        "index": index,
        "text": prompt.text + written.text,
        "logprobs": listed and listed.as_object(),
        "finish_reason": finish_reason(written.finish_reason),
    }
    ids = {"prompt_token_ids": prompt.ids, "token_ids": written.token_ids}
    return choice | ids if asked.options.token_ids else choice


async def _objects(asked: Asked) -> AsyncGenerator[Mapping[str, Any], None]:
    """The answer in pieces."""
    head = asked.head(*_HEAD)
    more = {"usage": None} if asked.options.include_usage else {}
    async with aclosing(_choices(asked)) as choices:
        async for choice in choices:
            yield {**head, "choices": [choice], **more}
    if asked.options.include_usage:
        yield {**head, "choices": [], "usage": usage(asked.groups(await asked.handle))}


async def _choices(asked: Asked) -> AsyncGenerator[dict[str, Any], None]:
    """Tokens as they come; all at the end where the prompt's own have log-probabilities."""
    told = set[int]()
    if not (asked.only_read or asked.options.scores):
        async with aclosing(_told(asked, told)) as choices:
            async for choice in choices:
                yield choice
    if len(told) < len(asked.prompts) * asked.count:
        answer = await to_thread.run_sync(partial(whole, asked, await asked.handle))
        for choice in answer["choices"]:
            if choice["index"] not in told:
                yield choice


async def _told(asked: Asked, begun: set[int]) -> AsyncGenerator[dict[str, Any], None]:
    """Tokens as they come, and of which texts: a text that was whole before has none."""
    texts = [asked.prompt(index).text for index in range(len(asked.prompts) * asked.count)]
    listings = _listings(asked)
    async for token in asked.handle:
        index = token.sequence
        listed = listings[index].only(token) if listings else None
        text, texts[index] = texts[index] + token.text, ""
        ids = {"token_ids": [token.id]} if asked.options.token_ids else {}
        if ids and index not in begun:
            ids["prompt_token_ids"] = asked.prompt(index).ids
        begun.add(index)
        if text or listed or ids or token.finish_reason:
            yield {
                "index": index,
                "text": text,
                "logprobs": listed,
                "finish_reason": finish_reason(token.finish_reason),
                **ids,
            }


def _listings(asked: Asked) -> list[Listing]:
    """For each text its log-probabilities, where they are asked for."""
    logprobs = asked.options.logprobs
    if logprobs is None:
        return []
    indices = range(len(asked.prompts) * asked.count)
    return [
        Listing(asked.served.tokens, logprobs, asked.prompt(index), asked.options)
        for index in indices
    ]


COMPLETIONS = EngineEndpoint(
    "/v1/completions",
    "Texts that go on from prompts.",
    _FORM,
    _ANSWER,
    prepare,
    whole,
    _objects,
)
