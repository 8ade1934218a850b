"""What a request for text asks for, once it was taken: what both endpoints of text share."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gpt2onnx.runtime.decoding.beams import Observer
from gpt2onnx.runtime.decoding.results import Generation, Score
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.params.rules import STREAM_EXCLUDES
from gpt2onnx.server.fields import Field, Form, flag, integer, nested, refusal, text
from gpt2onnx.server.sampling import PARAMETER_FIELDS, parameters_of, require_few
from gpt2onnx.server.schemas import INTEGER, STRING, Schema, constant
from gpt2onnx.server.served import MODEL, Served
from gpt2onnx.serving.handle import Handle

MOST_LOGPROBS = 20
# A request's place in the queue, from -10 to 10.
PRIORITIES = 10
_STREAM_OPTIONS = Form(
    {
        "include_usage": flag("Tell the usage in a last frame."),
        "include_obfuscation": flag("Taken without effect."),
    },
    ignored=(),
)
# What both endpoints of text take.
TEXT_FIELDS: Final[Mapping[str, Field]] = {
    "model": MODEL,
    "stream": flag("Send tokens as they come, as server-sent events."),
    "stream_options": nested(_STREAM_OPTIONS, "How to stream."),
    **PARAMETER_FIELDS,
    "negative_prompt": text("What guidance_scale leads away from."),
    "priority": integer(
        -PRIORITIES, PRIORITIES, "Its place in the queue: higher ones go first.", 0
    ),
}


@dataclass(frozen=True)
class Terms:
    """On what terms requests are taken: whose, and how long they may wait."""

    tenant: str | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class Options:
    """What a request says of its answer's form. `logprobs` is None where there are to be none."""

    logprobs: int | None = None  # how many beside each token's own
    echo: bool = False
    stream: bool = False
    include_usage: bool = False
    token_ids: bool = False  # each token's id, too

    @classmethod
    def of(
        cls, fields: Mapping[str, Any], logprobs: int | None, echo: bool = False, ids: bool = False
    ) -> Options:
        """With what the fields say of streams. Raises RequestError."""
        stream, settings = fields["stream"], fields.get("stream_options")
        if settings and not stream:
            raise refusal("stream_options", "has no effect without stream: leave it out")
        include_usage = settings is not None and settings["include_usage"]
        return cls(logprobs, echo, stream, include_usage, ids)

    @property
    def scores(self) -> bool:
        """Whether the prompt's own tokens have log-probabilities, too."""
        return self.echo and self.logprobs is not None


@dataclass(frozen=True)
class AskedPrompt:
    """A prompt as it is read: its ids [n], and its text where the answer begins with it.

    `prefill` are the tokens that stand behind it already, and that the answer doesn't tell.
    """

    ids: list[int]
    text: str = ""
    is_empty: bool = False  # it was given as nothing, and read as BOS
    prefill: tuple[int, ...] = ()

    @property
    def context(self) -> list[int]:
        """All that the answer goes on from."""
        return [*self.ids, *self.prefill]


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


@dataclass(frozen=True)
class Prepared:
    """A request that was understood, before its engine takes it."""

    served: Served
    options: Options
    prompts: Sequence[AskedPrompt]
    params: GenerationParams
    parameters: Mapping[str, Any]  # what generate is asked
    count: int
    priority: int
    only_read: bool

    def submit(self, terms: Terms, observe: Observer | None = None) -> Asked:
        """Have the engine take it. Raises what that raises.

        `observe` is told the steps of beam searches, which have no tokens to stream.
        """
        if self.options.stream and not observe:
            self.params.check_beside(STREAM_EXCLUDES)
        handle = self._score(terms) if self.only_read else self._generate(terms, observe)
        return Asked(
            self.served, self.options, handle, self.prompts, self.count, only_read=self.only_read
        )

    def _generate(self, terms: Terms, observe: Observer | None) -> Handle:
        return self.served.engine.submit(
            [each.ids for each in self.prompts],
            top_logprobs=self.options.logprobs or 0,
            prompt_logprobs=self.options.scores,
            priority=self.priority,
            tenant=terms.tenant,
            deadline=terms.deadline,
            draft=self.served.draft_for(self.params),
            observe=observe,
            **self.parameters,
        )

    def _score(self, terms: Terms) -> Handle:
        scores = self.options.scores
        return self.served.engine.submit_score(
            [each.ids for each in self.prompts if scores and len(each.ids) > 1],
            add_bos=False,
            top_logprobs=self.options.logprobs or 0,
            priority=self.priority,
            tenant=terms.tenant,
            deadline=terms.deadline,
        )


def prepared(
    served: Served,
    prompts: Sequence[Any],
    fields: Mapping[str, Any],
    options: Options,
    max_tokens: int | None,
) -> Prepared:
    """Understand what the fields ask for. Raises RequestError, ParameterError, PromptError."""
    parameters = parameters_of(fields, served.model.defaults)
    if max_tokens:
        parameters["max_new_tokens"] = max_tokens
    count = parameters.get("num_return_sequences", 1)
    require_few(parameters.get("best_of", count), len(prompts))
    params = served.model.params(parameters)
    _check_prefill(params, options, max_tokens)
    read = [
        replace(_prompt(served, each, options, parameters), prefill=params.prefill)
        for each in prompts
    ]
    if "negative_prompt" in fields:
        parameters["negative_prompt"] = fields["negative_prompt"]
    priority, only_read = fields.get("priority", 0), max_tokens == 0
    return Prepared(served, options, read, params, parameters, count, priority, only_read)


def _check_prefill(params: GenerationParams, options: Options, max_tokens: int | None) -> None:
    """Raises RequestError for what doesn't go with tokens that the text begins with already."""
    if params.prefill and options.echo:
        raise refusal("echo", "with prefill_ids: the text would miss them; leave one of them out")
    if params.prefill and max_tokens == 0:
        raise refusal("max_tokens", "is 0 with prefill_ids: expected more than they have")


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


def head_schema(kind: str) -> dict[str, Schema]:
    """What `Asked.head` gives."""
    return {"id": STRING, "object": constant(kind), "created": INTEGER, "model": STRING}


def usage(groups: Sequence[Sequence[Generation]]) -> dict[str, int]:
    """How many tokens were read and written."""
    read = sum(len(group[0].prompt_token_ids) + len(group[0].prefill_ids) for group in groups)
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
