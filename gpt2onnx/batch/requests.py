"""What a line of the input asks for: an endpoint and its body, or a prompt with parameters.

OpenAI's lines have `custom_id`, `method`, `url` and `body`
(https://platform.openai.com/docs/guides/batch); a line with `prompt` has parameters of its own
beside it, and of plain text each line is a prompt. Knows lines; knows no model.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from gpt2onnx.batch.lines import LONGEST, Line
from gpt2onnx.errors import RequestError, shown
from gpt2onnx.files import decoded, json_object
from gpt2onnx.samplers.params.rules import CONSTRAINTS

# Lines that are put in order at once, and the characters of a beginning that several may share: a
# chunk of the prefix cache has 64 tokens.
WINDOW = 1024
BEGINNING = 256
_ENVELOPE = {"custom_id", "method", "url", "body"}
_LENGTHS = ("max_new_tokens", "max_length")
# A job's parameters that give way to a line's own, by the line's word for them.
DISPLACES: Mapping[str, tuple[str, ...]] = {
    "max_tokens": _LENGTHS,
    "max_completion_tokens": _LENGTHS,
    "max_new_tokens": _LENGTHS,
    "max_length": _LENGTHS,
    "min_new_tokens": ("min_new_tokens", "min_length"),
    "min_length": ("min_new_tokens", "min_length"),
    "stop": ("stop_strings",),
    "n": ("num_return_sequences",),
    "temperature": ("temperature", "do_sample"),
    **dict.fromkeys(("response_format", *CONSTRAINTS), CONSTRAINTS),
}


@dataclass(frozen=True)
class Asked:
    """A line's request. `url` is None for a prompt with generate's parameters."""

    number: int
    custom_id: str
    url: str | None
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A name for its answer that is the same in every run."""
        return hashlib.sha256(self.custom_id.encode()).hexdigest()[:24]

    def seed(self, base: int) -> int:
        """What its draws begin with, wherever it runs: a hash of its name and the job's seed."""
        named = f"{base}\0{self.custom_id}".encode()
        return int.from_bytes(hashlib.sha256(named).digest()[:8]) >> 1

    def text(self) -> str:
        """What it begins with, as far as that can be told without a model."""
        prompt = self.body.get("prompt") or self.body.get("messages") or ""
        return prompt if isinstance(prompt, str) else str(prompt)


class LineError(Exception):
    """A line that asks for nothing that can be answered: its name, where it has one, and why."""

    def __init__(self, custom_id: str | None, error: RequestError) -> None:
        super().__init__(custom_id, error)
        self.custom_id, self.error = custom_id, error


def read(line: Line, form: str) -> Asked | None:
    """What a line asks for; None for a blank one. Raises LineError. `form` is json or text."""
    if line.content is None:
        raise LineError(None, RequestError(f"the line has more than {LONGEST:,} bytes", 413))
    if not line.content.strip():
        return None
    own_name = f"line-{line.number}"
    try:
        if form == "text":
            return Asked(line.number, own_name, None, {"prompt": _text(line.content)})
        found = json_object(line.content, "the line", RequestError)
    except RequestError as error:
        raise LineError(None, error) from None
    custom_id = found.get("custom_id")
    try:
        if custom_id is not None and not (isinstance(custom_id, str) and custom_id):
            raise _refusal("custom_id", f"is {shown(custom_id)}: expected a string")
        if "prompt" in found and not found.keys() & (_ENVELOPE - {"custom_id"}):
            body = {name: value for name, value in found.items() if name != "custom_id"}
            return Asked(line.number, custom_id or own_name, None, body)
        return _of_openai(line.number, found)
    except RequestError as error:
        raise LineError(custom_id if isinstance(custom_id, str) else None, error) from None


def _text(content: bytes) -> str:
    return decoded(content, "the line", RequestError)


def _of_openai(number: int, found: Mapping[str, Any]) -> Asked:
    """A line of OpenAI's batches. Raises RequestError."""
    for name in ("custom_id", "url", "body"):
        if name not in found:
            raise _refusal(name, "is missing: expected OpenAI's batch line, or one with prompt")
    method, url, body = found.get("method", "POST"), found["url"], found["body"]
    if unknown := sorted(found.keys() - _ENVELOPE):
        raise _refusal(unknown[0], "is unknown: expected custom_id, method, url and body")
    if method != "POST":
        raise _refusal("method", f"is {shown(method)}: expected POST")
    if not isinstance(url, str) or not url.startswith("/v1/"):
        raise _refusal("url", f"is {shown(url)}: expected a path such as /v1/completions")
    if not isinstance(body, dict):
        raise _refusal("body", f"is {shown(body)}: expected an object")
    if body.get("stream"):
        raise _refusal("stream", "has no meaning in a batch: leave it out")
    return Asked(number, str(found["custom_id"]), url, body)


def _refusal(name: str, why: str) -> RequestError:
    return RequestError(f"{name} {why}", param=name, code="invalid_line")


def merged(job: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A line's parameters over the job's; what it says in other words displaces the job's, too."""
    gone = {name for each in own for name in DISPLACES.get(each, ())}
    return {n: v for n, v in job.items() if n not in gone} | dict(own)


def in_order(asked: Iterable[Asked]) -> Iterator[Asked]:
    """Those that begin alike beside each other, others by their length, a window at a time."""
    waiting = iter(asked)
    while window := list(islice(waiting, WINDOW)):
        texts = {each.number: each.text() for each in window}
        count = Counter(text[:BEGINNING] for text in texts.values() if len(text) >= BEGINNING)
        yield from sorted(window, key=lambda each: _place(texts[each.number], count))


def _place(text: str, count: Mapping[str, int]) -> tuple[str, int]:
    begin = text[:BEGINNING]
    return begin if count.get(begin, 0) > 1 else "", len(text)
