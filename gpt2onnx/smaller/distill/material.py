"""What a student is to learn from: texts, or what its teacher writes, on its own or behind texts.

Knows what was asked for; the tokens are corpus.py's and samples.py's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint
from gpt2onnx.export.exporter import export
from gpt2onnx.smaller.distill.corpus import Corpus, of_texts
from gpt2onnx.smaller.distill.recipe import Recipe
from gpt2onnx.smaller.distill.samples import behind, on_its_own
from gpt2onnx.smaller.distill.training import Progress
from gpt2onnx.staging import work_folder

SAMPLES = 2000


@dataclass(frozen=True)
class Material:
    """As `distill`'s parameters of these names. Raises ParameterError."""

    texts: Sequence[str]
    held_out: Sequence[str]
    samples: int | None
    greedy: bool

    def __post_init__(self) -> None:
        if self.greedy and (not self.texts or self.samples is None):
            raise ParameterError(
                *(Given("greedy", self.greedy), " is how the teacher goes on from texts: give "),
                *(Given("texts"), " and ", Given("samples"), ", or leave it out"),
            )
        if self.held_out and not self.texts:
            raise ParameterError(
                *(Given("held_out"), " has no effect where the teacher writes the texts: give "),
                *(Given("texts"), ", too, or leave it out"),
            )

    def described(self) -> dict[str, Any]:
        """What tells it from another one, in JSON's types."""
        return {
            "texts": digest(self.texts),
            "held_out": digest(self.held_out),
            "samples": self.samples,
            "greedy": self.greedy,
        }

    def corpus(self, teacher: Checkpoint, recipe: Recipe, progress: Progress) -> Corpus:
        """Its tokens; the teacher writes them where it is to. Raises as of_texts and export."""
        first, seed = _first_token(teacher), recipe.seed
        read = None
        if self.texts:
            read = of_texts(teacher.tokenizer, first, self.texts, self.held_out)
        if read and self.samples is None:
            return read
        count = SAMPLES if self.samples is None else self.samples
        with work_folder("distill") as folder:
            model = export(teacher.folder, folder / "teacher", verify=False).folder
            if read is None:
                return on_its_own(model, first, count, seed, progress)
            window = min(recipe.window, recipe.positions - 1)
            return behind(model, read, count, window, self.greedy, seed, progress)


def _first_token(teacher: Checkpoint) -> int | None:
    config = teacher.config
    ends = config.eos_token_id
    end = ends[0] if isinstance(ends, tuple) and ends else ends
    first = end if config.bos_token_id is None else config.bos_token_id
    return first if isinstance(first, int) and 0 <= first < config.vocab_size else None


def digest(parts: Iterable[Any]) -> str:
    """Of texts or arrays."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else np.ascontiguousarray(part).tobytes()
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()
