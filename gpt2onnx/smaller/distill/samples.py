"""Texts that a teacher writes for its student, with our own engine: drawn as it is, or greedily.

On its own it begins with its first token; behind texts, with pieces of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gpt2onnx.errors import Given, ParameterError, PromptError
from gpt2onnx.serving.engine import Engine
from gpt2onnx.serving.handle import Handle
from gpt2onnx.smaller.distill.corpus import HELD_OUT_SHARE, Corpus, Ids, of_ids
from gpt2onnx.smaller.distill.training import Progress

ROWS = 32
AS_IT_IS: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


def on_its_own(
    model: Path, first: int | None, samples: int, seed: int, progress: Progress
) -> Corpus:
    """So many texts of a model folder, each from its first token up to its end, or to its context.

    Raises ParameterError where the model has no token to begin with, and as `Engine` does.
    """
    _check(samples)
    if first is None:
        raise ParameterError(
            Given("samples", samples),
            ": the teacher has no token that a text begins with; give ",
            *(Given("texts"), " to learn from"),
        )
    with Engine(model, max_rows=ROWS) as engine:
        most = engine.model.decoder.n_positions - 1
        prompts = [np.array([first])] * samples
        given = {"max_new_tokens": most, **AS_IT_IS, "seed": seed}
        texts = list(_written(engine, prompts, given, progress))
        learned = samples - _measured(samples)
        return _corpus(engine, texts[:learned], texts[learned:], 1)


def behind(
    model: Path,
    texts: Corpus,
    samples: int,
    window: int,
    greedy: bool,
    seed: int,
    progress: Progress,
) -> Corpus:
    """So many texts of `window` tokens and one, the first half of each a piece of other texts.

    Those to learn from go on from what is to be learned of `texts`, a few others from what is held
    out of them. Raises ParameterError, PromptError, and as `Engine` does.
    """
    _check(samples)
    half, rng = max(window // 2, 1), np.random.default_rng(seed)
    measured = _measured(samples)
    prompts = [
        *_pieces(texts.stream, half, samples, rng),
        *_pieces(texts.held_out, half, measured, rng),
    ]
    given = {"max_new_tokens": window + 1 - half, "eos_token_id": ()}
    given |= {} if greedy else {**AS_IT_IS, "seed": seed}
    with Engine(model, max_rows=ROWS) as engine:
        found = list(_written(engine, prompts, given, progress))
        corpus = _corpus(engine, found[:samples], found[samples:], half)
    return replace(corpus, stride=window + 1, given=half)


def _check(samples: int) -> None:
    if type(samples) is not int or samples < 2:
        raise ParameterError(Given("samples", samples), ": expected an integer of at least 2")


def _measured(samples: int) -> int:
    """How many texts there are to measure a student on."""
    return max(1, round(HELD_OUT_SHARE * samples))


def _pieces(stream: Ids, size: int, count: int, rng: np.random.Generator) -> list[Ids]:
    """Pieces of a text from anywhere in it."""
    if len(stream) <= size:
        raise PromptError(
            f"the texts: expected more tokens than the {size:,} that a sample begins with, to learn"
            f" from and held out, found {len(stream):,}; give more"
        )
    return [stream[start : start + size] for start in rng.integers(len(stream) - size, size=count)]


def _written(
    engine: Engine,
    prompts: Sequence[Ids],
    given: dict[str, Any],
    progress: Progress,
) -> Iterator[Ids]:
    """Each prompt with what the teacher writes behind it, by a seed of its own."""
    waiting: deque[tuple[Ids, Handle]] = deque()
    unasked = iter(enumerate(prompts))
    for done in range(1, len(prompts) + 1):
        while len(waiting) < 2 * ROWS:  # no row is ever without one
            index, prompt = next(unasked, (0, None))
            if prompt is None:
                break
            own = {"seed": given["seed"] + index} if "seed" in given else {}
            handle = engine.submit(prompt.tolist(), **{**given, **own})
            waiting.append((prompt, handle))
        prompt, handle = waiting.popleft()
        text: Any = handle.result()
        progress("writing texts", done, len(prompts))
        yield np.array([*prompt, *text.token_ids], np.int64)


def _corpus(engine: Engine, learned: Sequence[Ids], measured: Sequence[Ids], given: int) -> Corpus:
    """Of texts of which the first `given` tokens weren't written."""
    decode = engine.model.tokenizer.decode
    size = sum(len(decode(ids[given:].tolist()).encode()) for ids in measured)
    return of_ids(learned, measured, size)
