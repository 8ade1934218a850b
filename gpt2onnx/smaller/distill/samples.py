"""Texts that a teacher writes for its student, with our own engine: drawn as it is, or greedily.

On its own it begins with its first token; behind texts, with pieces of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gpt2onnx.errors import Given, ParameterError, PromptError
from gpt2onnx.serving.engine import Engine
from gpt2onnx.serving.handle import Handle
from gpt2onnx.smaller.distill.corpus import HELD_OUT_SHARE, Corpus, Ids, Text, end_to_end
from gpt2onnx.smaller.distill.training import Progress

ROWS = 32
Asked: TypeAlias = tuple[Ids, dict[str, Any]]  # a prompt and its parameters
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
        given = {"max_new_tokens": engine.model.decoder.n_positions - 1, **AS_IT_IS}
        asked = [(np.array([first]), {**given, "seed": seed + n}) for n in range(samples)]
        texts = list(_written(engine, asked, progress))
        learned = samples - _measured(samples)
        return _corpus(engine, texts[:learned], texts[learned:])


def behind(
    model: Path,
    texts: Corpus,
    samples: int,
    window: int,
    greedy: bool,
    seed: int,
    progress: Progress,
) -> Corpus:
    """So many texts of `window` tokens and one, each beginning with a piece of other texts.

    A piece is up to half a window long, so that a student learns to go on from little as well.
    Those to learn from go on from what is to be learned of `texts`, a few others from what is held
    out of them. Raises ParameterError, PromptError, and as `Engine` does.
    """
    _check(samples)
    longest, rng = max(window // 2, 1), np.random.default_rng(seed)
    prompts = [
        *_pieces(texts.stream, longest, samples, rng),
        *_pieces(texts.held_out, longest, _measured(samples), rng),
    ]
    asked: list[Asked] = []
    for number, prompt in enumerate(prompts):
        drawn = {} if greedy else {**AS_IT_IS, "seed": seed + number}
        given = {"max_new_tokens": window + 1 - len(prompt), "eos_token_id": (), **drawn}
        asked.append((prompt, given))
    with Engine(model, max_rows=ROWS) as engine:
        found = list(_written(engine, asked, progress))
        return _corpus(engine, found[:samples], found[samples:], window + 1)


def _check(samples: int) -> None:
    if type(samples) is not int or samples < 2:
        raise ParameterError(Given("samples", samples), ": expected an integer of at least 2")


def _measured(samples: int) -> int:
    """How many texts there are to measure a student on."""
    return max(1, round(HELD_OUT_SHARE * samples))


def _pieces(stream: Ids, size: int, count: int, rng: np.random.Generator) -> list[Ids]:
    """Pieces of a text from anywhere in it, of 1 to `size` tokens."""
    if len(stream) <= size:
        raise PromptError(
            f"the texts: expected more tokens than the {size:,} that a sample begins with, to learn"
            f" from and held out, found {len(stream):,}; give more"
        )
    starts = rng.integers(len(stream) - size, size=count)
    lengths = rng.integers(1, size, size=count, endpoint=True)
    return [stream[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def _written(engine: Engine, asked: Sequence[Asked], progress: Progress) -> Iterator[Text]:
    """Each prompt with what the teacher writes behind it, which is its own."""
    waiting: deque[tuple[Ids, Handle]] = deque()
    unasked = iter(asked)
    for done in range(1, len(asked) + 1):
        for prompt, given in islice(unasked, 2 * ROWS - len(waiting)):  # no row is without one
            waiting.append((prompt, engine.submit(prompt.tolist(), **given)))
        prompt, handle = waiting.popleft()
        text: Any = handle.result()
        progress("writing texts", done, len(asked))
        ids = np.array([*prompt, *text.token_ids], np.int64)
        yield Text(ids, np.arange(len(ids)) >= len(prompt))


def _corpus(
    engine: Engine, learned: Sequence[Text], measured: Sequence[Text], stride: int = 1
) -> Corpus:
    """The length is of what was written."""
    decode = engine.model.tokenizer.decode
    size = sum(len(decode(text.ids[text.own].tolist()).encode()) for text in measured)
    return end_to_end(learned, measured, size, stride)
