"""Checkpoint and texts in, a checkpoint with fewer layers and hidden units out.

What each choice would cost is measured on text that nothing was fitted on, before one is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from gpt2onnx.errors import ExportError, Given, ParameterError
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint, Weights
from gpt2onnx.export.writing.folder import check_replaceable
from gpt2onnx.export.writing.progress import Track, silent
from gpt2onnx.files import as_path
from gpt2onnx.smaller.checkpoint import (
    NewCheckpoint,
    open_source,
    tokenizer_files,
    weights_bytes,
    with_options,
)
from gpt2onnx.smaller.prune.refit import refitted
from gpt2onnx.smaller.prune.stream import block_influence, perplexity
from gpt2onnx.smaller.prune.text import Windows, windows_of

# What is offered of the hidden units, and of the layers at most, where nothing was chosen.
SHARES, MOST_DROPPED = (3 / 4, 1 / 2, 1 / 4), 6
MULTIPLE = 64  # of hidden units: what kernels are fastest on


class Choice(NamedTuple):
    """What is left: layers, and hidden units in each."""

    layers: int
    inner: int


@dataclass(frozen=True)
class Cost:
    """What a choice comes to: bytes of the weights, perplexity on the held-out text."""

    choice: Choice
    size: int
    perplexity: float


@dataclass(frozen=True)
class Pruning:
    """A checkpoint that has read the texts, and can be made smaller by them."""

    checkpoint: Checkpoint
    windows: Windows
    track: Track

    @property
    def whole(self) -> Choice:
        return Choice(self.checkpoint.config.n_layer, self.checkpoint.config.n_inner)

    @cached_property
    def influence(self) -> list[float]:
        """How far each layer turns the stream."""
        return block_influence(self.checkpoint, self.windows.fit)

    @property
    def note(self) -> str:
        """What is doubtful about the text, if anything."""
        found, guessing = self._original.perplexity, self.checkpoint.config.vocab_size
        if found < guessing:
            return ""
        return (
            f"the model's perplexity on the text is {found:,.0f}, worse than guessing among its "
            f"{guessing:,} tokens: the text seems to be of another language or kind"
        )

    def choice(self, layers: int | None, inner: int | None) -> Choice:
        """A choice by its numbers, the original's where None. Raises ParameterError."""
        for name, value, most in (
            ("layers", layers, self.whole.layers),
            ("inner", inner, self.whole.inner),
        ):
            if value is not None and (type(value) is not int or not 0 < value <= most):
                raise ParameterError(
                    Given(name, value), f": expected 1 to {most}, as many as the checkpoint has"
                )
        chosen = Choice(layers or self.whole.layers, inner or self.whole.inner)
        if chosen == self.whole and (layers, inner) != (None, None):
            raise ParameterError(
                f"{chosen.layers} layers of {chosen.inner} hidden units are all that the checkpoint"
                " has: choose fewer"
            )
        return chosen

    def offers(self) -> list[Choice]:
        """A few of each: layers one by one down to half of them, hidden units by shares."""
        layers, inner = self.whole
        fewest = max(layers // 2, layers - MOST_DROPPED, 1)
        sizes = (int(inner * share) // MULTIPLE * MULTIPLE for share in SHARES)
        return [
            *(Choice(count, inner) for count in range(layers - 1, fewest - 1, -1)),
            *(Choice(layers, size) for size in dict.fromkeys(sizes) if 0 < size < inner),
        ]

    def costs(self, choices: Iterable[Choice]) -> list[Cost]:
        """The original's, and each choice's, in order."""
        found = {self.whole: self._original}
        wanted = list(dict.fromkeys(choices))
        by_layers = dict.fromkeys(choice.layers for choice in wanted)
        for layers in self.track(by_layers, "measuring choices"):
            inners = [choice.inner for choice in wanted if choice.layers == layers]
            for inner, weights in zip(inners, self._refitted(layers, inners), strict=True):
                found.setdefault(Choice(layers, inner), self._cost(weights))
        return [found[each] for each in dict.fromkeys((self.whole, *wanted))]

    def write(self, out: str | Path, choice: Choice) -> Path:
        """Write the checkpoint of a choice. Raises as `NewCheckpoint.write` does."""
        (weights,) = self._refitted(choice.layers, [choice.inner])
        made = NewCheckpoint(
            weights,
            self.checkpoint.dtype,
            with_options(self.checkpoint.config_json, n_layer=choice.layers, n_inner=choice.inner),
            self.checkpoint.generation_config,
            tokenizer_files(self.checkpoint.folder),
        )
        place = as_path(out, "out", ExportError)
        made.write(place, self.track)
        return place

    def kept_layers(self, count: int) -> list[int]:
        """The layers of most influence, in order; of equals the first ones."""
        order = sorted(range(self.whole.layers), key=lambda layer: (-self.influence[layer], layer))
        return sorted(order[:count])

    @cached_property
    def _original(self) -> Cost:
        return self._cost(self.checkpoint)

    def _refitted(self, layers: int, inners: Sequence[int]) -> Sequence[Weights]:
        return refitted(self.checkpoint, self.kept_layers(layers), inners, self.windows.fit)

    def _cost(self, weights: Weights) -> Cost:
        config = weights.config
        return Cost(
            Choice(config.n_layer, config.n_inner),
            weights_bytes(config, self.checkpoint.dtype),
            perplexity(weights, self.windows.held_out),
        )


def open_pruning(
    source: str | Path,
    texts: Sequence[str],
    *,
    out: str | Path | None = None,
    revision: str | None = None,
    track: Track = silent,
) -> Pruning:
    """Open a checkpoint to be pruned by texts like those to come.

    out: where it is to be written, looked at before the work begins. Raises CheckpointError and its
    kinds, OutputExistsError, and PromptError where the texts hold too few tokens.
    """
    if out is not None:
        check_replaceable(as_path(out, "out", ExportError), force=None)
    checkpoint = open_source(source, revision)
    return Pruning(checkpoint, windows_of(checkpoint, texts), track)


def prune(
    source: str | Path,
    out: str | Path,
    texts: Sequence[str],
    *,
    layers: int | None = None,
    inner: int | None = None,
    revision: str | None = None,
) -> list[Cost]:
    """Write a checkpoint with so many layers and hidden units; gives the original's cost and its.

    layers: those of least block influence go. inner: in every layer, those that add least to its
    output on the texts go. What is left is refitted on the texts.

    Raises as `open_pruning` does, ParameterError for numbers beyond the checkpoint's, and
    ExportError and its kinds.
    """
    pruning = open_pruning(source, texts, out=out, revision=revision)
    choice = pruning.choice(layers, inner)
    if choice == pruning.whole:
        raise nothing_chosen()
    costs = pruning.costs([choice])
    pruning.write(out, choice)
    return costs


def nothing_chosen() -> ParameterError:
    """Neither number was given."""
    return ParameterError(
        "nothing is chosen: give ", Given("layers"), ", ", Given("inner"), " or both"
    )
