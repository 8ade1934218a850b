"""POST /v1/completions: texts that go on from prompts.

https://platform.openai.com/docs/api-reference/completions
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from gpt2onnx.runtime.decoding.beams import Observer
from gpt2onnx.runtime.decoding.results import Generation
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
from gpt2onnx.server.body import json_object, read_body
from gpt2onnx.server.completion_logprobs import Listing
from gpt2onnx.server.event_stream import EventStream
from gpt2onnx.server.fields import Fields, refusal
from gpt2onnx.server.json_answer import JsonAnswer
from gpt2onnx.server.sampling import length_of
from gpt2onnx.server.served import ServedModels
from gpt2onnx.server.watching import watched

DEFAULT_MAX_TOKENS = 16  # OpenAI's
_HEAD = ("cmpl", "text_completion")
_REFUSED = {
    "suffix": "a GPT-2 writes on, it fills nothing in",
    "draft": "the server's own choice",
}


async def completions(request: Request) -> Response:
    """Answers with whole texts, or streams them."""
    body = await read_body(request)
    state = request.app.state
    terms = Terms(request.scope.get("gpt2onnx.tenant"), state.queue_timeout)
    asked = await to_thread.run_sync(partial(take, state.models, body, terms))
    if asked.options.stream:
        return EventStream(_objects(asked), asked.handle)
    async with watched(request.receive, asked.handle):
        results = await asked.handle
    return JsonAnswer(await to_thread.run_sync(partial(whole, asked, results)))


def take(models: ServedModels, body: bytes, terms: Terms, observe: Observer | None = None) -> Asked:
    """Understand a request, and have its engine take it. Raises what that raises.

    `observe` is told the steps of beam searches; without beams the request is refused then.
    """
    fields = Fields(json_object(body), _REFUSED)
    served = models.find(fields.text("model"))
    prompts = _prompts(fields.take("prompt", ""))
    stream, include_usage = stream_options(fields)
    options = Options(
        fields.integer("logprobs", 0, MOST_LOGPROBS),
        fields.flag("echo"),
        stream,
        include_usage,
        fields.flag("return_token_ids"),
    )
    max_tokens = length_of(fields, ("max_tokens",), DEFAULT_MAX_TOKENS)
    return submitted(served, prompts, fields, options, max_tokens, terms, observe)


def _prompts(given: Any) -> list[Any]:
    """A list of texts or of ids."""
    if isinstance(given, list) and given and isinstance(given[0], str | list):
        return given
    if isinstance(given, str) or (isinstance(given, list) and given):
        return [given]
    raise refusal("prompt", "is empty or no prompt: expected a text, token ids, or a list of them")


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
    if asked.only_read or (asked.options.echo and asked.options.logprobs is not None):
        answer = await to_thread.run_sync(partial(whole, asked, await asked.handle))
        for choice in answer["choices"]:
            yield choice
        return
    texts = [asked.prompt(index).text for index in range(len(asked.prompts) * asked.count)]
    listings, begun = _listings(asked), set[int]()
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
