"""A configuration's answers: logits along texts, and greedy texts.

The reference writes on from each prompt; the logits that are compared are those of every position
of prompt and text, which both models are given. Knows files of logits; knows no times.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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


def reference(job: Job) -> None:
    """Write what others are compared with into the folder job.work: logits and ids a prompt."""
    model = open_model(job)
    for number, ids in enumerate(_prompts(model, job)):
        written = _greedy(model, ids, job.new_tokens)
        text = np.concatenate([ids, written])
        np.save(_file(job, "ids", number), text)
        np.save(_file(job, "logits", number), _logits(model, text))


def candidate(job: Job) -> record.Agreement:
    """Compare a configuration with what the reference left in job.work.

    Raises ProviderError where logits aren't numbers.
    """
    model = open_model(job)
    agreement, texts, lengths = Agreement(), [], []
    for number, ids in enumerate(_prompts(model, job)):
        text = np.load(_file(job, "ids", number))
        expected: Logits = np.load(_file(job, "logits", number), mmap_mode="r")
        agreement.add(expected, _logits(model, text))
        written = _greedy(model, ids, job.new_tokens)
        texts.append(compared(model.tokenizer, expected, text, written, len(ids)))
        lengths.append(len(text))
    return record.Agreement(
        figures=_figures(agreement),
        by_position=_by_position(agreement, lengths),
        texts=texts,
        partings=record.partings(texts),
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
    if not np.isfinite(logits).all():
        raise ProviderError(
            f"{model.session.provider} gives logits that are no numbers, NaN or infinity: "
            "expected finite ones; use another precision"
        )
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


def _file(job: Job, what: str, number: int) -> Path:
    return Path(job.work, f"{what}-{number}.npy")
