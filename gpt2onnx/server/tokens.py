"""Texts and tokens: /tokenize, /detokenize, and what a text is worth to a model, /v1/score."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from gpt2onnx.runtime.decoding.results import Score
from gpt2onnx.server.asked import MOST_LOGPROBS, Terms
from gpt2onnx.server.body import json_object, read_body
from gpt2onnx.server.fields import Fields, refusal
from gpt2onnx.server.json_answer import JsonAnswer
from gpt2onnx.server.served import Served, ServedModels
from gpt2onnx.server.taking import taken
from gpt2onnx.server.watching import watched
from gpt2onnx.serving.handle import Handle

# A text to score is read in windows; this many times the model's positions at most.
MOST_WINDOWS = 16


async def tokenize(request: Request) -> Response:
    """A text's ids."""
    return await _answer(request, _tokenized)


async def detokenize(request: Request) -> Response:
    """The text of ids."""
    return await _answer(request, _detokenized)


async def score(request: Request) -> Response:
    """The log-probability of each token of a text."""
    served, handle = await taken(request, _take_score)
    async with watched(request.receive, handle):
        (found,) = await handle
    return JsonAnswer(await to_thread.run_sync(partial(_scored, served, found)))


async def _answer(request: Request, answer: Callable[[ServedModels, bytes], Any]) -> Response:
    body = await read_body(request)
    return JsonAnswer(await to_thread.run_sync(partial(answer, request.app.state.models, body)))


def _tokenized(models: ServedModels, body: bytes) -> dict[str, Any]:
    fields = Fields(json_object(body))
    served = models.find(fields.text("model"))
    prompt = fields.text("prompt")
    names = fields.flag("return_token_strs")
    fields.flag("add_special_tokens")  # a GPT-2 tokenizer adds none
    fields.end()
    if prompt is None:
        raise refusal("prompt", "is missing: expected a string")
    ids = served.model.token_ids(prompt).tolist()
    return {
        "count": len(ids),
        "max_model_len": served.model.decoder.n_positions,
        "tokens": ids,
        "token_strs": [served.tokens.name(each) for each in ids] if names else None,
    }


def _detokenized(models: ServedModels, body: bytes) -> dict[str, Any]:
    fields = Fields(json_object(body))
    served = models.find(fields.text("model"))
    tokens = fields.array("tokens")
    fields.end()
    if tokens is None:
        raise refusal("tokens", "is missing: expected token ids")
    return {"prompt": served.tokens.text(served.model.token_ids(tokens).tolist())}


def _take_score(models: ServedModels, body: bytes, terms: Terms) -> tuple[Served, Handle]:
    fields = Fields(json_object(body))
    served = models.find(fields.text("model"))
    text, add_bos = fields.take("text"), fields.take("add_bos", True)
    top = fields.integer("top_logprobs", 0, MOST_LOGPROBS) or 0
    fields.end()
    if not isinstance(text, str | list):
        raise refusal("text", "is missing: expected a string, or token ids")
    ids = served.model.to_score(text, add_bos).tolist()
    most = MOST_WINDOWS * served.model.decoder.n_positions
    if len(ids) > most:
        raise refusal("text", f"has {len(ids)} tokens: expected at most {most}")
    handle = served.engine.submit_score(
        [ids],
        add_bos=False,
        top_logprobs=top,
        tenant=terms.tenant,
        deadline=terms.deadline,
    )
    return served, handle


def _scored(served: Served, found: Score) -> dict[str, Any]:
    rows = found.alternatives or [()] * len(found.token_ids)
    tokens = [
        {
            "id": token,
            "text": served.tokens.name(token),
            "logprob": logprob,
            "top_logprobs": [
                {"id": each.id, "text": served.tokens.name(each.id), "logprob": each.logprob}
                for each in row
            ],
        }
        for token, logprob, row in zip(found.token_ids, found.logprobs, rows, strict=True)
    ]
    return {
        "object": "score",
        "model": served.name,
        "tokens": tokens,
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte if found.utf8_bytes else None,
        "usage": {"prompt_tokens": len(tokens), "total_tokens": len(tokens)},
    }
