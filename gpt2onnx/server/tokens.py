"""Texts and tokens: /tokenize, /detokenize, and what a text is worth to a model, /v1/score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gpt2onnx.runtime.decoding.results import Score
from gpt2onnx.server.asked import MOST_LOGPROBS, Terms
from gpt2onnx.server.endpoint import EngineEndpoint, ThreadEndpoint
from gpt2onnx.server.fields import Form, anything, array, flag, integer, refusal, text
from gpt2onnx.server.schemas import INTEGER, NUMBER, STRING, array_of, constant, or_null, record
from gpt2onnx.server.served import MODEL, Served
from gpt2onnx.serving.handle import Handle

# A text to score is read in windows; this many times the model's positions at most.
MOST_WINDOWS = 16


def _tokenized(served: Served, fields: Mapping[str, Any]) -> dict[str, Any]:
    ids = served.model.token_ids(fields["prompt"]).tolist()
    names = fields["return_token_strs"]
    return {
        "count": len(ids),
        "max_model_len": served.model.decoder.n_positions,
        "tokens": ids,
        "token_strs": [served.tokens.name(each) for each in ids] if names else None,
    }


def _detokenized(served: Served, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": served.tokens.text(served.model.token_ids(fields["tokens"]).tolist())}


@dataclass(frozen=True)
class _Scored:
    """A text that is scored."""

    served: Served
    handle: Handle


@dataclass(frozen=True)
class _ToScore:
    """A text, before its engine takes it."""

    served: Served
    ids: list[int]
    top: int

    params = None

    def submit(self, terms: Terms) -> _Scored:
        handle = self.served.engine.submit_score(
            [self.ids],
            add_bos=False,
            top_logprobs=self.top,
            tenant=terms.tenant,
            deadline=terms.deadline,
        )
        return _Scored(self.served, handle)


def _to_score(served: Served, fields: Mapping[str, Any]) -> _ToScore:
    if not isinstance(fields["text"], str | list):
        raise refusal("text", "is no text: expected a string, or token ids")
    ids = served.model.to_score(fields["text"], fields["add_bos"]).tolist()
    most = MOST_WINDOWS * served.model.decoder.n_positions
    if len(ids) > most:
        raise refusal("text", f"has {len(ids)} tokens: expected at most {most}")
    return _ToScore(served, ids, fields["top_logprobs"])


def _score(asked: _Scored, results: Sequence[Score]) -> dict[str, Any]:
    (found,), served = results, asked.served
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


_NAMED: Final = {"id": INTEGER, "text": STRING, "logprob": NUMBER}
_TOKEN = record(**_NAMED, top_logprobs=array_of(record(**_NAMED)))
TOKENIZE = ThreadEndpoint(
    "/tokenize",
    "A text's token ids.",
    Form(
        {
            "model": MODEL,
            "prompt": text("The text."),
            "return_token_strs": flag("List each token's text."),
            "add_special_tokens": flag("Without effect: a GPT-2 tokenizer adds none."),
        },
        required=("prompt",),
    ),
    record(
        count=INTEGER,
        max_model_len=INTEGER,
        tokens=array_of(INTEGER),
        token_strs=or_null(array_of(STRING)),
    ),
    _tokenized,
)
DETOKENIZE = ThreadEndpoint(
    "/detokenize",
    "The text of token ids.",
    Form(
        {"model": MODEL, "tokens": array("Token ids.", items={"type": "integer", "minimum": 0})},
        required=("tokens",),
    ),
    record(prompt=STRING),
    _detokenized,
    prompt="tokens",
)
SCORE = EngineEndpoint(
    "/v1/score",
    "The log-probability of each token of a text.",
    Form(
        {
            "model": MODEL,
            "text": anything(
                "a string, or token ids",
                "A text, or token ids.",
                anyOf=[STRING, array_of({"type": "integer", "minimum": 0})],
            ),
            "add_bos": flag("Score the first token too, behind a BOS token.", default=True),
            "top_logprobs": integer(
                0, MOST_LOGPROBS, "How many others to list beside each token.", 0
            ),
        },
        required=("text",),
    ),
    record(
        object=constant("score"),
        model=STRING,
        tokens=array_of(_TOKEN),
        perplexity=NUMBER,
        bits_per_byte=or_null(NUMBER),
        usage=record(prompt_tokens=INTEGER, total_tokens=INTEGER),
    ),
    _to_score,
    _score,
    prompt="text",
)
