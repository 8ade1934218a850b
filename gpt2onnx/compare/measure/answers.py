"""A configuration's answers: logits along texts, and greedy texts.

The reference writes on from each prompt; the logits that are compared are those of every position
of prompt and text, which both models are given. Whoever wrote a candidate's, they are compared
here. Knows files of logits; knows no times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray

from gpt2onnx.agreement import Agreement
from gpt2onnx.compare.measure.job import Job
from gpt2onnx.compare.measure.opening import open_model
from gpt2onnx.compare.measure.texts import compared
from gpt2onnx.compare.record import answers as record
from gpt2onnx.errors import Given, PromptTooLongError, ProviderError
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.protocol import Ids, Logits
from gpt2onnx.runtime.model import Model
from gpt2onnx.tokenizer.codec import encode


class Expected(NamedTuple):
    """A prompt's length, the text [n] that the reference makes of it, and the logits [n, vocab]."""

    prompt: int
    text: Ids
    logits: Logits

    @property
    def written(self) -> Ids:
        """The text behind the prompt, [count]."""
        return self.text[self.prompt :]


class Answered(NamedTuple):
    """What a candidate gives for it: logits [n, vocab] along the text, and its own [count] ids."""

    expected: Expected
    logits: Logits
    written: Ids


def reference(job: Job) -> None:
    """Write what others are compared with into the folder job.work: logits and ids a prompt."""
    model, work = open_model(job), Path(job.work)
    for number, ids in enumerate(_prompts(model, job)):
        written = _greedy(model, ids, job.new_tokens)
        text = np.concatenate([ids, written])
        np.save(_file(work, "ids", number), text)
        np.save(_file(work, "logits", number), _logits(model, text))


def expectations(work: Path, prompts: int, new_tokens: int) -> list[Expected]:
    """What the reference left in the folder `work`, a prompt each."""
    return [_expected(work, number, new_tokens) for number in range(prompts)]


def _expected(work: Path, number: int, new_tokens: int) -> Expected:
    text = np.load(_file(work, "ids", number))
    logits = np.load(_file(work, "logits", number), mmap_mode="r")
    return Expected(len(text) - new_tokens, text, logits)


def candidate(job: Job) -> record.Agreement:
    """Compare a configuration with what the reference left in job.work.

    Raises ProviderError where logits aren't numbers.
    """
    model = open_model(job)
    return agreement_of(model.tokenizer, _answered(model, job))


def _answered(model: Model, job: Job) -> Iterator[Answered]:
    for expected in expectations(Path(job.work), len(job.prompts), job.new_tokens):
        logits = _logits(model, expected.text)
        prompt = expected.text[: expected.prompt]
        yield Answered(expected, logits, _greedy(model, prompt, job.new_tokens))


def agreement_of(tokenizer: tokenizers.Tokenizer, answered: Iterable[Answered]) -> record.Agreement:
    """How answers, finite numbers, agree with the reference's."""
    agreement, texts, lengths = Agreement(), [], []
    for expected, logits, written in answered:
        agreement.add(expected.logits, logits)
        texts.append(parting(tokenizer, expected, written))
        lengths.append(len(expected.text))
    return record.Agreement(
        figures=_figures(agreement),
        by_position=_by_position(agreement, lengths),
        texts=texts,
        partings=record.partings(texts),
    )


def parting(
    tokenizer: tokenizers.Tokenizer, expected: Expected, written: Ids
) -> record.Same | record.Parting:
    """Where what a candidate wrote, [count], parts from what was expected."""
    return compared(tokenizer, expected.logits, expected.text, written, expected.prompt)


def require_finite(logits: Logits, who: str) -> None:
    """Raise ProviderError for logits that are no numbers."""
    if not np.isfinite(logits).all():
        raise ProviderError(
            f"{who} gives logits that are no numbers, NaN or infinity: expected finite ones; use "
            "another precision"
        )


def encoded(
    tokenizer: tokenizers.Tokenizer, texts: Sequence[str], n_positions: int, new_tokens: int
) -> list[Ids]:
    """Prompts as token ids, each [n]. Raises PromptTooLongError where no room is left behind."""
    prompts = [np.array(encode(tokenizer, text), np.int64) for text in texts]
    room = n_positions - new_tokens
    for number, ids in enumerate(prompts, 1):
        if len(ids) > room:
            raise PromptTooLongError(
                f"prompt {number} has {len(ids)} tokens: expected at most {room}, the model's "
                "positions without ",
                *(Given("new_tokens", new_tokens), "; shorten it"),
            )
    return prompts


def _prompts(model: Model, job: Job) -> list[Ids]:
    return encoded(model.tokenizer, job.prompts, model.decoder.n_positions, job.new_tokens)


def _greedy(model: Model, ids: Ids, count: int) -> Ids:
    written = model.generate(ids.tolist(), max_new_tokens=count, do_sample=False)
    return np.array(written.token_ids, np.int64)


def _logits(model: Model, ids: Ids) -> Logits:
    """The logits [n, vocab] after each of ids [n]. Raises ProviderError."""
    model.decoder.reserve(1, len(ids))
    row = model.decoder.new_row()
    try:
        logits = reads.extend(model.decoder, row, ids)
    finally:
        model.decoder.free(row)
    require_finite(logits, model.session.provider)
    return logits


def _figures(agreement: Agreement) -> record.Figures:
    return record.Figures(
        positions=agreement.tokens,
        max_logit_difference=agreement.max_logit_difference,
        logit_difference_p999=agreement.logit_difference_p999,
        kl_mean=agreement.kl_mean,
        kl_p99=agreement.kl_p99,
        top1_agreement=agreement.top1_agreement,
    )


def _by_position(agreement: Agreement, lengths: list[int]) -> record.ByPosition:
    return record.ByPosition(
        kl=_means(agreement.kl_by_position, lengths),
        top1_agreement=_means(agreement.top1_by_position, lengths),
    )


def _means(values: NDArray[np.generic], lengths: list[int]) -> list[float]:
    """Of values [positions], texts of those lengths one behind the other: a mean a position."""
    texts = np.split(values, np.cumsum(lengths)[:-1])
    return [
        float(np.mean([text[place] for text in texts if place < len(text)]))
        for place in range(max(lengths))
    ]


def _file(work: Path, what: str, number: int) -> Path:
    return work / f"{what}-{number}.npy"
