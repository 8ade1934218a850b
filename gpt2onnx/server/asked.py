"""What a request for text asks for, once it was taken: what both endpoints of text share."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt2onnx.runtime.decoding.beams import Observer
from gpt2onnx.runtime.decoding.results import Generation, Score
from gpt2onnx.samplers.params.rules import STREAM_EXCLUDES
from gpt2onnx.server.fields import Fields, refusal
from gpt2onnx.server.sampling import PRIORITIES, parameters_of, require_few
from gpt2onnx.server.served import Served
from gpt2onnx.serving.handle import Handle

MOST_LOGPROBS = 20


@dataclass(frozen=True)
class Terms:
    """On what terms requests are taken: whose, and how long they may wait."""

    tenant: str | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class Options:
    """What a request says of its answer's form."""

    logprobs: int | None = None  # how many beside each token's own
    echo: bool = False
    stream: bool = False
    include_usage: bool = False
    token_ids: bool = False  # each token's id, too


@dataclass(frozen=True)
class AskedPrompt:
    """A prompt as it is read: its ids [n], and its text where the answer begins with it."""

    ids: list[int]
    text: str = ""
    is_empty: bool = False  # it was given as nothing, and read as BOS


@dataclass(frozen=True)
class Asked:
    """A request that runs."""

    served: Served
    options: Options
    handle: Handle
    prompts: Sequence[AskedPrompt]
    count: int  # texts of each prompt
    only_read: bool = False  # nothing is written, and the handle's results are scores
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def head(self, prefix: str, kind: str) -> dict[str, Any]:
        """What every object of the answer begins with."""
        return {
            "id": f"{prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.served.name,
        }

    def prompt(self, index: int) -> AskedPrompt:
        """The one that a text goes on from."""
        return self.prompts[index // self.count]

    def groups(self, results: Sequence[Any]) -> list[list[Generation]]:
        """What was written, by prompt."""
        if not self.only_read:
            return [each if isinstance(each, list) else [each] for each in results]
        scores = iter(results)
        read = [
            _read(prompt.ids, next(scores, None) if len(prompt.ids) > 1 else None)
            for prompt in self.prompts
        ]
        return [[each] * self.count for each in read]


def stream_options(fields: Fields) -> tuple[bool, bool]:
    """Whether to stream, and to tell the usage at the end. Raises RequestError."""
    stream = fields.flag("stream")
    if "stream_options" in fields and not stream:
        raise refusal("stream_options", "has no effect without stream: leave it out")
    options = Fields(fields.object("stream_options"))
    include_usage = options.flag("include_usage")
    options.flag("include_obfuscation")
    options.end()
    return stream, include_usage


def submitted(
    served: Served,
    prompts: Sequence[Any],
    fields: Fields,
    options: Options,
    max_tokens: int | None,
    terms: Terms,
    observe: Observer | None = None,
) -> Asked:
    """Have the engine take what the rest of the fields asks for. Raises what that raises."""
    parameters = parameters_of(fields, served.model.defaults)
    if max_tokens:
        parameters["max_new_tokens"] = max_tokens
    negative = fields.text("negative_prompt")
    priority = fields.integer("priority", -PRIORITIES, PRIORITIES) or 0
    fields.end()
    count = parameters.get("num_return_sequences", 1)
    require_few(parameters.get("best_of", count), len(prompts))
    params = served.model.params(parameters)
    if observe and params.num_beams == 1:
        raise refusal("num_beams", "is 1 or missing: expected at least 2 here")
    if options.stream and not observe:
        params.check_beside(STREAM_EXCLUDES)
    read = [_prompt(served, each, options, parameters) for each in prompts]
    scores = options.echo and options.logprobs is not None
    of_request: dict[str, Any] = {
        "priority": priority,
        "tenant": terms.tenant,
        "deadline": terms.deadline,
    }
    if max_tokens == 0:
        texts = [each.ids for each in read if scores and len(each.ids) > 1]
        handle = served.engine.submit_score(
            texts, add_bos=False, top_logprobs=options.logprobs or 0, **of_request
        )
        return Asked(served, options, handle, read, count, only_read=True)
    if negative is not None:
        parameters["negative_prompt"] = negative
    if observe:
        parameters["observe"] = observe
    handle = served.engine.submit(
        [each.ids for each in read],
        top_logprobs=options.logprobs or 0,
        prompt_logprobs=scores,
        **of_request,
        **parameters,
    )
    return Asked(served, options, handle, read, count)


def _prompt(
    served: Served, given: Any, options: Options, parameters: Mapping[str, Any]
) -> AskedPrompt:
    ids: list[int] = served.model.prompt_ids(given, **parameters).tolist()
    if len(given) == 0:
        return AskedPrompt(ids, is_empty=True)
    return AskedPrompt(ids, served.tokens.text(ids) if options.echo else "")


def _read(ids: list[int], score: Score | None) -> Generation:
    """A text of no tokens, after a prompt that was scored or not."""
    read = Generation(ids, finish_reason="length", prompt_logprobs=[])
    if score:
        read.prompt_logprobs, read.prompt_alternatives = score.logprobs, score.alternatives
    return read


def usage(groups: Sequence[Sequence[Generation]]) -> dict[str, int]:
    """How many tokens were read and written."""
    read = sum(len(group[0].prompt_token_ids) for group in groups)
    written = sum(len(each.token_ids) for group in groups for each in group)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }


def finish_reason(reason: str | None) -> str | None:
    """OpenAI's words: stop where the text ended by itself, length where a limit ended it."""
    if reason is None:
        return None
    return "length" if reason in ("length", "context", "time") else "stop"
