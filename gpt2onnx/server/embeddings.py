"""POST /v1/embeddings: a vector of each text, the mean of its hidden states or the last one.

https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2onnx.runtime.decoder.protocol import Hidden
from gpt2onnx.server.asked import Terms
from gpt2onnx.server.endpoint import EngineEndpoint
from gpt2onnx.server.fields import Form, flag, one_of
from gpt2onnx.server.prompts import prompts_field, prompts_of
from gpt2onnx.server.sampling import require_few
from gpt2onnx.server.schemas import INTEGER, NUMBER, STRING, array_of, constant, record
from gpt2onnx.server.served import MODEL, Served
from gpt2onnx.serving.embedding import POOLINGS
from gpt2onnx.serving.handle import Handle

_FORM = Form(
    {
        "model": MODEL,
        "input": prompts_field("A text, token ids, or a list of either."),
        "encoding_format": one_of(
            ("float", "base64"),
            "How a vector is written: as numbers, or as base64 of float32, little-endian.",
            "float",
        ),
        "pooling": one_of(POOLINGS, "The mean of all hidden states, or the last one.", "mean"),
        "normalize": flag("Scale each vector to length 1.", default=True),
        "overflow": one_of(
            ("error", "truncate"),
            "Of a text that is longer than the model: refuse it, or keep its end.",
            "error",
        ),
    },
    refused={"dimensions": "the model wasn't taught shorter vectors"},
    required=("input",),
)

_VECTOR = record(
    object=constant("embedding"),
    index=INTEGER,
    embedding={"anyOf": [array_of(NUMBER), STRING]},
)
_ANSWER = record(
    object=constant("list"),
    model=STRING,
    data=array_of(_VECTOR),
    usage=record(prompt_tokens=INTEGER, total_tokens=INTEGER),
)


@dataclass(frozen=True)
class _Asked:
    """Texts that are read."""

    served: Served
    fields: Mapping[str, Any]
    handle: Handle
    tokens: int


@dataclass(frozen=True)
class _ToDo:
    """Texts, before an engine takes them."""

    served: Served
    fields: Mapping[str, Any]
    ids: Sequence[Any]  # of each text [n]

    params = None

    def submit(self, terms: Terms) -> _Asked:
        handle = self.served.engine.submit_embedding(
            self.ids,
            pooling=self.fields["pooling"],
            tenant=terms.tenant,
            deadline=terms.deadline,
        )
        return _Asked(self.served, self.fields, handle, sum(map(len, self.ids)))


def _prepare(served: Served, fields: dict[str, Any]) -> _ToDo:
    texts = prompts_of("input", fields["input"])
    require_few(1, len(texts), "input")
    return _ToDo(served, fields, [_ids(served, text, fields["overflow"]) for text in texts])


def _ids(served: Served, text: Any, overflow: str) -> Any:
    if len(text) == 0 or overflow == "truncate":
        return served.model.token_ids(text)[-served.model.decoder.n_positions :]
    return served.model.prompt_ids(text, overflow="error")


def _whole(asked: _Asked, vectors: Sequence[Hidden]) -> dict[str, Any]:
    return {
        "object": "list",
        "model": asked.served.name,
        "data": [
            {"object": "embedding", "index": index, "embedding": _written(vector, asked.fields)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": asked.tokens, "total_tokens": asked.tokens},
    }


def _written(vector: Hidden, fields: Mapping[str, Any]) -> Any:  # [hidden_size]
    if fields["normalize"]:
        vector = vector / (np.linalg.norm(vector) or 1)
    if fields["encoding_format"] == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()


EMBEDDINGS = EngineEndpoint(
    "/v1/embeddings",
    "A vector of each text.",
    _FORM,
    _ANSWER,
    _prepare,
    _whole,
    prompt="input",
)
