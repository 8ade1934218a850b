"""GPT-2's tensor names, without the prefixes that wrappers add.

torch.compile, data parallelism and others put a prefix before every name. Where all names have it,
and what is left are GPT-2's own, it is taken off; else it is told.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import WeightsError, shown
from gpt2onnx.export.checkpoint.tensors import Tensors

PEFT = "base_model.model."
PREFIXES = (
    "_orig_mod.",
    "module.",
    "_module.",
    "model.",
    PEFT,
    "pretrained_model.",
)
"""What wrappers put before every name: torch.compile, DataParallel and its kin, privacy engines,
Lightning, PEFT, TRL. Several may have wrapped one another."""
KNOWN = re.compile(f"(?:{'|'.join(map(re.escape, PREFIXES))})+")

EMBEDDING = re.compile(r"(?P<prefix>.*?)(transformer\.)?wte\.weight", re.DOTALL)
OWN = re.compile(r"(transformer\.)?(wte|wpe|ln_f|h\.[0-9]+)\.[\w.]+|lm_head\.weight", re.ASCII)


class Renamed:
    """Tensors without the prefix that all their names have; see `Tensors`."""

    as_saved = False

    def __init__(self, tensors: Tensors, prefix: str) -> None:
        self._tensors, self._prefix = tensors, prefix

    def names(self) -> frozenset[str]:
        return frozenset(name.removeprefix(self._prefix) for name in self._tensors.names())

    def file(self, name: str) -> Path:
        return self._tensors.file(self._prefix + name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors.shape(self._prefix + name)

    def dtype(self, name: str) -> str:
        return self._tensors.dtype(self._prefix + name)

    def read(self, name: str) -> NDArray[np.float32]:
        return self._tensors.read(self._prefix + name)


def without_prefix(tensors: Tensors) -> Tensors:
    """The tensors by GPT-2's names. Raises WeightsError where a prefix can't be taken off."""
    names = sorted(tensors.names())
    embeddings = list(filter(None, map(EMBEDDING.fullmatch, names)))
    embedding = min(embeddings, key=lambda match: len(match["prefix"]), default=None)
    prefix = embedding["prefix"] if embedding else ""
    if not embedding or not prefix:
        return tensors
    others = [n for n in names if not (n.startswith(prefix) and OWN.fullmatch(n, len(prefix)))]
    if KNOWN.fullmatch(prefix) and not others:
        return Renamed(tensors, prefix)
    having = sum(name.startswith(prefix) for name in names)
    advice = "merge the adapter by PEFT's merge_and_unload()" if PEFT in prefix else "take it off"
    raise WeightsError(
        f"{tensors.file(embedding[0])}: expected GPT-2's names, such as"
        f" {embedding[0].removeprefix(prefix)}, found the prefix {shown(prefix)} before {having} of"
        f" {len(names)} names{_such_as(others)}; {advice} and save GPT-2's weights alone",
        path=tensors.file(embedding[0]),
        name=embedding[0],
    )


def _such_as(others: list[str]) -> str:
    return f", and others, such as {others[0]:.100}" if others else ""
