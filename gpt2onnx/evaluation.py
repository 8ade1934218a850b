"""Evaluates a model on a text: perplexity, and agreement with a reference.

Logits are compared chunk by chunk, so that of a long text a few bytes a token are kept. Knows
models and references; knows no command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gpt2onnx import models
from gpt2onnx.agreement import Agreement
from gpt2onnx.errors import ModelFolderError, ParameterError
from gpt2onnx.flags import refusal
from gpt2onnx.reference import Reference, of_model, open_reference
from gpt2onnx.runtime.decoder.protocol import Ids, Logits
from gpt2onnx.runtime.engine.score import walk
from gpt2onnx.runtime.model import Model
from gpt2onnx.runtime.text.prompts import Prompt
from gpt2onnx.samplers import token_logprobs
from gpt2onnx.samplers.params.values import integer
from gpt2onnx.tokenizer.codec import decode

# Told how many tokens of how many are done.
Progress: TypeAlias = Callable[[int, int], object]


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a text. The last three are None without a reference."""

    model: str
    precision: str | None  # None: another exporter's folder, which doesn't say
    tokens: int
    perplexity: float  # exp of the mean negative log-probability of a token
    bits_per_byte: float  # negative log2-probability a byte of UTF-8
    reference: str | None = None
    reference_perplexity: float | None = None
    agreement: Agreement | None = None

    def figures(self) -> dict[str, Any]:
        """All of it by name, for JSON; what only a reference tells is there with one."""
        own = {
            "model": self.model,
            "precision": self.precision,
            "tokens": self.tokens,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
        }
        if self.agreement is None:
            return own
        return own | {
            "reference": self.reference,
            "reference_perplexity": self.reference_perplexity,
            "kl_mean": self.agreement.kl_mean,
            "kl_p99": self.agreement.kl_p99,
            "top1_agreement": self.agreement.top1_agreement,
            "max_logit_difference": self.agreement.max_logit_difference,
        }


def evaluate(
    model: Model | str | Path,
    text: Prompt,
    *,
    reference: Reference | Model | str | Path | None = None,
    stride: int | None = None,
    add_bos: bool = True,
    max_tokens: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Perplexity and bits per byte of a text, or token ids, and how far from a reference's logits.

    model: open, or its folder. reference: one of `open_reference`'s, an open model, or what
    `open_reference` takes. A text longer than the model is read in windows that move on by
    `stride`, half of its positions by default. add_bos: as Model.score's. max_tokens: how many
    tokens are scored, all by default.

    Raises PromptError where no token is left to be scored; ParameterError for a stride or
    max_tokens out of range, and for a reference of another vocabulary, tokenizer or length; what
    opening either raises.
    """
    model = model if isinstance(model, Model) else models.load(model)
    if max_tokens is not None:
        max_tokens = integer(1, "an integer of at least 1")("max_tokens", max_tokens)
    if progress is not None and not callable(progress):
        raise refusal("progress", progress, "a function (done, of_all)")
    ids = model.to_score(text, add_bos)
    other = None if reference is None else _as_reference(reference)
    if other:
        _check(model, other, ids, text, add_bos)
    if max_tokens is not None:
        ids = ids[: max_tokens + 1]
    total, other_total, agreement = _read(model, other, ids, stride, progress)
    tokens = len(ids) - 1
    text_bytes = len(decode(model.tokenizer, ids[1:].tolist()).encode())
    manifest = model.folder.manifest or {}
    return Evaluation(
        str(model.folder.path),
        manifest.get("precision"),
        tokens,
        math.exp(-total / tokens),
        -total / math.log(2) / text_bytes,
        other.name if other else None,
        math.exp(-other_total / tokens) if other else None,
        agreement,
    )


def _as_reference(given: Reference | Model | str | Path) -> Reference:
    if isinstance(given, Reference):
        return given
    return of_model(given) if isinstance(given, Model) else open_reference(given)


def _check(model: Model, reference: Reference, ids: Ids, text: Prompt, add_bos: bool) -> None:
    """Raise ParameterError where a reference's logits can't be set beside the model's."""
    both = f"{model.folder.path} and the reference {reference.name}"
    for what, mine, others in (
        ("vocabulary", model.decoder.vocab_size, reference.vocab_size),
        ("positions", model.decoder.n_positions, reference.n_positions),
    ):
        if mine != others:
            raise ParameterError(
                f"{both}: expected the same {what} of both, found {mine} and {others}; compare a "
                "model with what it was made of"
            )
    read = reference.to_score(text, add_bos)
    if not np.array_equal(read, ids):
        raise ParameterError(
            f"{both}: expected the same tokens of the text from both, found {len(ids)} and "
            f"{len(read)}, which differ: their tokenizers do; compare a model with what it was "
            "made of"
        )


def _read(
    model: Model,
    reference: Reference | None,
    ids: Ids,
    stride: int | None,
    progress: Progress | None,
) -> tuple[float, float, Agreement | None]:
    """Log-probabilities of ids[1:], summed, of the model and the reference; how far they agree."""
    inputs, targets = ids[:-1], ids[1:]
    total = other_total = 0.0
    agreement = Agreement() if reference else None
    with closing(_side_by_side(model, reference, inputs, stride)) as pieces:
        for piece, logits, expected in pieces:
            total += _sum(logits, targets[piece], str(model.folder.path))
            if reference and agreement and expected is not None:
                other_total += _sum(expected, targets[piece], reference.name)
                agreement.add(expected, logits)
            if progress:
                progress(piece.stop, len(inputs))
    return total, other_total, agreement


def _side_by_side(
    model: Model, reference: Reference | None, inputs: Ids, stride: int | None
) -> Generator[tuple[slice, Logits, Logits | None], None, None]:
    """Pieces of the model's logits, each with the reference's of the same tokens."""
    with closing(walk(model.decoder, inputs, stride)) as mine:
        if reference is None:
            yield from ((piece, logits, None) for piece, logits in mine)
            return
        with closing(reference.walk(inputs, stride)) as others:
            for (piece, logits), (_, expected) in zip(mine, others, strict=True):
                yield piece, logits, expected


def _sum(logits: Logits, targets: Ids, name: str) -> float:
    total = float(token_logprobs(logits, targets).sum(dtype=np.float64))
    if not math.isfinite(total):
        raise ModelFolderError(
            f"{name}: its logits hold NaN or infinity, which no perplexity comes of; export it "
            "again, or in another precision"
        )
    return total
