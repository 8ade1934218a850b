"""Composes the chains of penalties and warpers from the parameters.

The order of penalties is that of transformers 4.57's `_get_logits_processor`, that of warpers is
that of the table of parameters. Knows nothing of the draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.samplers import penalties
from gpt2onnx.samplers.candidates import LARGEST, Candidates, IntArray
from gpt2onnx.samplers.chain.penalized import Penalties
from gpt2onnx.samplers.dry import dry
from gpt2onnx.samplers.mirostat import Mirostat
from gpt2onnx.samplers.params import PARAMETERS, GenerationParams
from gpt2onnx.samplers.penalties import Penalty
from gpt2onnx.samplers.warpers import Warper

State = TypeVar("State")


def penalty_steps(
    params: GenerationParams, prompt_length: int, sequence_index: int
) -> Iterator[Penalty]:
    """The penalties that the parameters turn on, in order. `params` are those of `for_prompt`.

    logit_bias comes first, where transformers has sequence_bias, whose case of single tokens it is.
    Frequency and presence follow the repetition penalty, as in vLLM, then comes DRY, as in
    llama.cpp, and all of them precede the constraints: what is forbidden stays forbidden.
    """
    if params.logit_bias:
        biases = np.array(tuple(params.logit_bias.values()))
        values = biases.clip(-LARGEST, LARGEST).astype(np.float32)
        yield partial(penalties.logit_bias, ids=_ids(params.logit_bias), values=values)
    if params.repetition_penalty not in (None, 1.0):
        yield partial(penalties.repetition_penalty, penalty=params.repetition_penalty)
    if params.frequency_penalty or params.presence_penalty:
        yield partial(
            penalties.frequency_presence_penalty,
            prompt_length=prompt_length,
            frequency=params.frequency_penalty or 0.0,
            presence=params.presence_penalty or 0.0,
        )
    if params.dry_multiplier:
        yield partial(
            dry,
            multiplier=params.dry_multiplier,
            breakers=_breaker_ids(params),
            **given(
                base=params.dry_base,
                allowed_length=params.dry_allowed_length,
                last_n=params.dry_penalty_last_n,
            ),
        )
    if params.no_repeat_ngram_size:
        yield partial(penalties.no_repeat_ngram, size=params.no_repeat_ngram_size)
    yield from _constraint_steps(params, prompt_length, sequence_index)


def _constraint_steps(
    params: GenerationParams, prompt_length: int, sequence_index: int
) -> Iterator[Penalty]:
    """What may not, or what alone may, follow: from bad_words_ids to begin_suppress_tokens."""
    if params.bad_words_ids:
        yield partial(penalties.bad_words, words=penalties.by_length(params.bad_words_ids))
    if params.min_new_tokens:
        yield partial(
            penalties.min_length,
            length=prompt_length + params.min_new_tokens,
            eos_token_ids=_ids(params.eos_token_ids),
        )
    if params.prefix_allowed_tokens_fn:
        yield partial(
            penalties.prefix_allowed_tokens,
            allowed_fn=params.prefix_allowed_tokens_fn,
            sequence_index=sequence_index,
        )
    if params.forced_bos_token_id is not None:
        yield partial(penalties.force_at, ids=_ids([params.forced_bos_token_id]), length=1)
    if params.forced_eos_token_ids:
        last = prompt_length + params.max_new_tokens - 1
        yield partial(penalties.force_at, ids=_ids(params.forced_eos_token_ids), length=last)
    if params.suppress_tokens:
        yield partial(penalties.suppress, ids=_ids(params.suppress_tokens))
    if params.begin_suppress_tokens:
        # The forced first token, where there is one, isn't the beginning.
        begin = prompt_length + (params.forced_bos_token_id is not None)
        yield partial(penalties.suppress_at, ids=_ids(params.begin_suppress_tokens), length=begin)


def warper_steps(
    params: GenerationParams,
    rng: np.random.Generator | None = None,
    mirostat: Mirostat | None = None,
) -> Iterator[Warper]:
    """The warpers that the parameters turn on, in order; none unless they sample.

    `rng` and `mirostat` are one sequence's state, which XTC and mirostat ask for. A strategy that
    has none raises ParameterError for parameters that turn those on.
    """
    for name in params.active_warpers:
        warping = PARAMETERS[name].warping
        assert warping
        values = {key: getattr(params, each) for key, each in warping.arguments.items()}
        state = {"rng": _state(name, params, rng)} if warping.draws else {}
        yield partial(warping.function, **given(**values), **state)
    if params.mirostat_mode:
        yield _state("mirostat_mode", params, mirostat).warp


def draws_each(params: GenerationParams) -> int:
    """How many random numbers a token takes: the draw's, and those of warpers that draw."""
    warpings = [PARAMETERS[name].warping for name in params.active_warpers]
    return 1 + sum(each.draws for each in warpings if each)


def _breaker_ids(params: GenerationParams) -> IntArray:  # [k]
    texts = [breaker for breaker in params.dry_breakers if isinstance(breaker, str)]
    if texts:
        raise ParameterError(
            Given("dry_sequence_breakers"),
            f" holds the text {texts[0]!r}: expected token ids; Model.params finds those of texts",
        )
    return _ids(breaker for breaker in params.dry_breakers if isinstance(breaker, int))


def _state(name: str, params: GenerationParams, state: State | None) -> State:
    """A sequence's state, which the parameter `name` asks for."""
    if state is None:
        raise ParameterError(
            Given(name, getattr(params, name)),
            " draws each sequence by itself, which this strategy doesn't: leave one of the two out",
        )
    return state


def given(**values: Any) -> dict[str, Any]:
    """Those that aren't None: for the others a function's own defaults hold."""
    return {name: value for name, value in values.items() if value is not None}


def compose_penalties(steps: Iterable[Penalty]) -> Penalties:
    """One penalty that applies all in turn."""
    return Penalties(steps)


def compose_warpers(steps: Iterable[Warper]) -> Warper:
    """One warper that applies all in turn."""
    chain = tuple(steps)

    def warp(candidates: Candidates) -> Candidates:  # [n] -> [kept]
        for step in chain:
            candidates = step(candidates)
        return candidates

    return warp


def _ids(tokens: Iterable[int]) -> IntArray:  # [k]
    return np.array(tuple(tokens), np.int64)
