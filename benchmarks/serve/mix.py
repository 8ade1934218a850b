"""A pool of requests of every kind, each with what Model gives it alone; and how answers compare.

Prompts are slices of the package's own source, some with a beginning in common. Knows our API.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import gpt2onnx
from benchmarks.serve.client import Exchange

PLACE = Path(gpt2onnx.__file__).parent
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "size": {"type": "integer"}},
    "required": ["name", "size"],
}
BEGINNINGS, BEGINNING_TOKENS = 4, 64
Answer = list[tuple[list[int], str, list[float]]]  # ids, text, log-probabilities of each text


@dataclass
class Wanted:
    """A request, and its answer alone."""

    kind: str
    path: str
    body: dict[str, Any]
    answer: Answer = field(default_factory=list)

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream"))


def pool(model: gpt2onnx.Model, count: int, seed: int = 0) -> list[Wanted]:
    """That many requests, with their answers; of every kind where there are 20."""
    rng = np.random.default_rng(seed)
    prompts = _prompts(model, rng)
    kinds = [kind for kind, (share, _) in KINDS.items() for _ in range(share)]
    return [KINDS[kinds[n % len(kinds)]][1](model, rng, prompts) for n in range(count)]


def _prompts(model: gpt2onnx.Model, rng: np.random.Generator) -> Callable[[int, int], list[int]]:
    """Draws prompts of `least` to `most` tokens, log-uniform; every third begins as others do."""
    text = "\n".join(path.read_text() for path in sorted(PLACE.glob("runtime/*.py")))
    tokens = model.token_ids(text)
    starts = rng.integers(0, len(tokens) - 1024, BEGINNINGS)

    def draw(least: int, most: int) -> list[int]:
        length = int(np.exp(rng.uniform(np.log(least), np.log(most + 1))))
        at = rng.integers(0, len(tokens) - 1024)
        ids: list[int] = tokens[at : at + length].tolist()
        if length > 2 * BEGINNING_TOKENS or not rng.integers(3):
            start = rng.choice(starts)
            beginning = tokens[start : start + BEGINNING_TOKENS]
            ids[:BEGINNING_TOKENS] = beginning[: min(length, BEGINNING_TOKENS)].tolist()
        return ids

    return draw


def _text(
    kind: str,
    least: int,
    most: int,
    lengths: tuple[int, int],
    parameters: Callable[[np.random.Generator], dict[str, Any]],
    stream: bool = False,
) -> Callable[..., Wanted]:
    def make(model: gpt2onnx.Model, rng: np.random.Generator, draw: Any) -> Wanted:
        prompt = draw(least, most)
        asked = {"max_new_tokens": int(rng.integers(*lengths, endpoint=True)), **parameters(rng)}
        form = {"logprobs": 0, "return_token_ids": True, "stream": stream}
        found = model.generate(prompt, **asked)
        texts = found if isinstance(found, list) else [found]
        answer = [(list(each.token_ids), each.text, list(each.logprobs)) for each in texts]
        return Wanted(kind, "/v1/completions", {"prompt": prompt, **asked, **form}, answer)

    return make


def _score(model: gpt2onnx.Model, rng: np.random.Generator, draw: Any) -> Wanted:
    prompt = draw(32, 400)
    found = model.score(prompt)
    return Wanted(
        "score", "/v1/score", {"text": prompt}, [(list(found.token_ids), "", list(found.logprobs))]
    )


def _greedy(rng: np.random.Generator) -> dict[str, Any]:
    return {"do_sample": False}


def _drawn(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "do_sample": True,
        "temperature": 0.9,
        "top_k": 50,
        "top_p": 0.95,
        "seed": int(rng.integers(2**31)),
    }


KINDS: dict[str, tuple[int, Callable[..., Wanted]]] = {  # shares of 20
    "short": (6, _text("short", 3, 8, (4, 8), _greedy)),
    "stream": (5, _text("stream", 8, 300, (16, 64), _drawn, stream=True)),
    "several": (2, _text("several", 8, 100, (8, 32), lambda r: _drawn(r) | _count(3), stream=True)),
    "greedy": (2, _text("greedy", 8, 300, (16, 64), _greedy)),
    "beams": (2, _text("beams", 8, 200, (8, 24), lambda _: {"num_beams": 4, "do_sample": False})),
    "structured": (1, _text("structured", 8, 60, (40, 60), lambda r: _drawn(r) | _structure())),
    "score": (2, _score),
}


def _count(n: int) -> dict[str, Any]:
    return {"num_return_sequences": n}


def _structure() -> dict[str, Any]:
    return {"json_schema": SCHEMA}


def fault(wanted: Wanted, exchange: Exchange) -> str | None:
    """How an answer of status 200 isn't what the request gives alone; None where it is.

    Of one that was left by its client, what came must be how it begins.
    """
    try:
        came = _came(wanted, exchange)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return f"no answer: {error!r}: {exchange.body[-200:]!r}"
    if exchange.was_left:
        return None if _begins(wanted.answer, came) else "another beginning"
    if came == wanted.answer:
        return None
    return next((f"text {n}: {a} for {b}" for n, a, b in _pairs(came, wanted.answer) if a != b), "")


def _came(wanted: Wanted, exchange: Exchange) -> Answer:
    if wanted.kind == "score":
        tokens = exchange.json()["tokens"]
        return [([each["id"] for each in tokens], "", [each["logprob"] for each in tokens])]
    if not wanted.streams:
        return [_of_choice(each) for each in exchange.json()["choices"]]
    answer: Answer = [([], "", []) for _ in wanted.answer]
    for choice in _choices(exchange):
        index = choice["index"]
        ids, text, logprobs = answer[index]
        more, piece, values = _of_choice(choice)
        answer[index] = ([*ids, *more], text + piece, [*logprobs, *values])
    return answer


def _choices(exchange: Exchange) -> Iterator[Any]:
    for event in exchange.events():
        if "choices" not in event.content:
            raise ValueError(json.dumps(event.content))
        yield from event.content["choices"]


def _of_choice(choice: Any) -> tuple[list[int], str, list[float]]:
    return choice["token_ids"], choice["text"], choice["logprobs"]["token_logprobs"]


def _begins(whole: Answer, came: Answer) -> bool:
    return all(
        ids[: len(some)] == some and text.startswith(piece) and values[: len(few)] == few
        for (ids, text, values), (some, piece, few) in zip(whole, came, strict=True)
    )


def _pairs(came: Answer, wanted: Answer) -> Iterator[tuple[int, Any, Any]]:
    if len(came) != len(wanted):
        yield -1, len(came), len(wanted)
    for number, (a, b) in enumerate(zip(came, wanted, strict=False)):
        yield from ((number, mine, its) for mine, its in zip(a, b, strict=True))
