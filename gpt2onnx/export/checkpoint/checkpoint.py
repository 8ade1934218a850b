"""A GPT-2 checkpoint: its config, tokenizer and weights, from a folder or a model hub.

Knows the names and shapes of GPT-2's tensors. Knows nothing of ONNX, nor of how weights are stored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gpt2onnx.errors import (
    Advised,
    CheckpointError,
    UnsupportedConfigError,
    WeightsError,
    shown,
)
from gpt2onnx.export.checkpoint.adapter import Adapter
from gpt2onnx.export.checkpoint.adapter_config import ADAPTER_CONFIG
from gpt2onnx.export.checkpoint.chat_template import ChatTemplate, read_chat_template
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.checkpoint.floats import is_finite
from gpt2onnx.export.checkpoint.hub import fetch
from gpt2onnx.export.checkpoint.tensor_names import without_prefix
from gpt2onnx.export.checkpoint.tensors import Tensors, open_tensors
from gpt2onnx.export.checkpoint.tokenizer import check_size, load_tokenizer
from gpt2onnx.files import as_path, path_errors, read_json

PREFIX = "transformer."
HEAD = "lm_head.weight"
LAYER = re.compile(r"(?:transformer\.)?h\.([0-9]{1,9})\.")
# Parsed, JSON takes up to thirty times its bytes.
MAX_CONFIG = 10_000_000
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def tensor_shapes(config: Gpt2Config) -> dict[str, tuple[int, ...]]:
    """The tensors of GPT2LMHeadModel by short name, with their shapes.

    Matrices are stored [in, out] (transformers' Conv1D), the head [vocab_size, n_embd]. A tied head
    is `wte.weight`, and has no name of its own.
    """
    width, inner = config.n_embd, config.n_inner
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (config.vocab_size, width),
        "wpe.weight": (config.n_positions, width),
    }
    for layer in range(config.n_layer):
        shapes |= {
            f"h.{layer}.ln_1.weight": (width,),
            f"h.{layer}.ln_1.bias": (width,),
            f"h.{layer}.attn.c_attn.weight": (width, 3 * width),
            f"h.{layer}.attn.c_attn.bias": (3 * width,),
            f"h.{layer}.attn.c_proj.weight": (width, width),
            f"h.{layer}.attn.c_proj.bias": (width,),
            f"h.{layer}.ln_2.weight": (width,),
            f"h.{layer}.ln_2.bias": (width,),
            f"h.{layer}.mlp.c_fc.weight": (width, inner),
            f"h.{layer}.mlp.c_fc.bias": (inner,),
            f"h.{layer}.mlp.c_proj.weight": (inner, width),
            f"h.{layer}.mlp.c_proj.bias": (width,),
        }
    shapes |= {"ln_f.weight": (width,), "ln_f.bias": (width,)}
    return shapes if config.tie_word_embeddings else shapes | {HEAD: (config.vocab_size, width)}


class Weights(Protocol):
    """A GPT-2 and its weights, wherever they come from."""

    @property
    def config(self) -> Gpt2Config: ...

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor, by its short name (a key of `tensor_shapes`). Not to be written to."""


@dataclass(frozen=True)
class Arrays:
    """Weights in memory, by GPT-2's short names (`tensor_shapes`); see `Weights`."""

    config: Gpt2Config
    tensors: Mapping[str, NDArray[np.float32]]

    def tensor(self, name: str) -> NDArray[np.float32]:
        return self.tensors[name]


def head_matrix(weights: Weights) -> NDArray[np.float32]:
    """The language model head [vocab, n_embd], tied or its own. Not to be written to."""
    return weights.tensor("wte.weight" if weights.config.tie_word_embeddings else HEAD)


@dataclass(frozen=True)
class Checkpoint:
    """A GPT-2 checkpoint. Its tensors stay on disk until they are asked for.

    `source` is what the user gave, `revision` the commit that a hub's model was fetched at;
    `config_json` and `generation_config` are the files' contents. `adapters` were merged into it.
    """

    source: str
    revision: str | None
    folder: Path
    config: Gpt2Config
    config_json: Mapping[str, Any] = field(repr=False)
    generation_config: Mapping[str, Any] | None = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    tensors: Tensors = field(repr=False)
    chat_template: ChatTemplate | None = field(repr=False)
    adapters: tuple[Adapter, ...] = ()

    def check(self) -> None:
        """See that the weights fit the config, by what the files tell of them.

        Tensors that GPT2LMHeadModel has no use for are passed over, as in transformers: masks that
        old versions stored (`attn.bias`), other heads, a tied head's copy. Layers beyond n_layer
        are refused: the config is another model's. Raises WeightsError.
        """
        self._check_layers()
        for name in self._shapes:
            self._check_shape(name)
        self._check_tied_head()

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor, by its short name (a key of `tensor_shapes`). Not to be written to.

        Raises WeightsError where it is missing, has another shape, or holds NaN or infinity.
        """
        self._check_shape(name)
        stored = self._stored(name)
        values = self.tensors.read(stored)
        if not is_finite(values):
            raise WeightsError(
                f"{self.tensors.file(stored)}: expected finite numbers in {stored}, found NaN or"
                " infinity; no logits can come of that",
                path=self.tensors.file(stored),
                name=stored,
            )
        return values

    @cached_property
    def dtype(self) -> str:
        """The type that all tensors are stored in; of several types F32, which holds them all."""
        found = {self.tensors.dtype(self._stored(name)) for name in self._shapes}
        return found.pop() if len(found) == 1 and found <= {"F16", "BF16"} else "F32"

    @cached_property
    def _shapes(self) -> Mapping[str, tuple[int, ...]]:
        return tensor_shapes(self.config)

    @cached_property
    def _prefix(self) -> str:
        """What the body's names in the files begin with: all or none, as in transformers."""
        return PREFIX if any(name.startswith(PREFIX) for name in self.tensors.names()) else ""

    def _stored(self, name: str) -> str:
        """The name in the files."""
        return name if name == HEAD else self._prefix + name

    def _check_shape(self, name: str) -> None:
        stored, shape = self._stored(name), self._shapes[name]
        if stored not in self.tensors.names():
            raise WeightsError(
                f"{self.folder}: expected {stored} of shape {list(shape)}, found only"
                f" {_some(self.tensors.names())}",
                path=self.folder,
                name=stored,
            )
        found = self.tensors.shape(stored)
        if found != shape:
            raise WeightsError(
                f"{self.tensors.file(stored)}: expected {stored} of shape {list(shape)}, as"
                f" config.json has it, found {list(found)}",
                path=self.tensors.file(stored),
                name=stored,
            )

    def _check_layers(self) -> None:
        """See that there are as many layers as the config says, before anything is made of each."""
        layers = {int(layer[1]): name for name, layer in self._layer_names()}
        expected = f"expected {shown(self.config.n_layer)} layers, as config.json has it in n_layer"
        for layer, name in sorted(layers.items()):
            if layer >= self.config.n_layer:
                raise WeightsError(
                    f"{self.tensors.file(name)}: {expected}, found {name:.100}",
                    path=self.tensors.file(name),
                    name=name,
                )
        if len(layers) < self.config.n_layer:
            raise WeightsError(
                f"{self.folder}: {expected}, found tensors of {len(layers)}",
                path=self.folder,
                name="n_layer",
            )

    def _layer_names(self) -> Iterator[tuple[str, re.Match[str]]]:
        for name in sorted(self.tensors.names(), reverse=True):
            if layer := LAYER.match(name):
                yield name, layer

    def _check_tied_head(self) -> None:
        """A stored head that isn't the embedding contradicts the config.

        Only then does this read values. transformers ties the two up to 4.57; from 5 on it doesn't.
        """
        if not self.config.tie_word_embeddings or HEAD not in self.tensors.names():
            return
        embedding = self._stored("wte.weight")
        same_shape = self.tensors.shape(HEAD) == self.tensors.shape(embedding)
        if not same_shape or self._digest(HEAD) != self._digest(embedding):
            raise WeightsError(
                f"{self.tensors.file(HEAD)}: expected {HEAD} to equal wte.weight, as config.json"
                " has it in tie_word_embeddings, found other values; set that to false if they are"
                f" meant, or take {HEAD} out",
                path=self.tensors.file(HEAD),
                name=HEAD,
            )

    def _digest(self, stored: str) -> bytes:
        return hashlib.sha256(np.ascontiguousarray(self.tensors.read(stored)).data).digest()


def open_checkpoint(source: str | Path, revision: str | None = None) -> Checkpoint:
    """Open a checkpoint's folder or, where `source` is a hub's model id, fetch it first.

    Raises CheckpointError, or what is derived from it.
    """
    path = as_path(source, "source", CheckpointError)
    with path_errors(path, CheckpointError):
        folder, commit = _locate(source, path, revision)
        return _open(folder, str(source), commit)


def _open(folder: Path, source: str, commit: str | None) -> Checkpoint:
    if (folder / ADAPTER_CONFIG).exists():
        raise UnsupportedConfigError(
            f"{folder}: {ADAPTER_CONFIG} makes it an adapter to another model; export that one,"
            " with ",
            Advised("adapter", str(folder)),
            path=folder,
            name=ADAPTER_CONFIG,
        )
    if not (folder / "config.json").exists():
        raise CheckpointError(
            f"{folder}: expected a checkpoint of transformers, found no config.json",
            path=folder,
            name="config.json",
        )
    config_json = read_json(folder / "config.json", CheckpointError, MAX_CONFIG)
    config = Gpt2Config.from_json(config_json)
    generation = folder / "generation_config.json"
    tensors = without_prefix(open_tensors(folder, HEAD if config.tie_word_embeddings else ""))
    tokenizer = load_tokenizer(folder)
    check_size(tokenizer, config)
    return Checkpoint(
        source=source,
        revision=commit,
        folder=folder,
        config=config,
        config_json=config_json,
        generation_config=read_json(generation, CheckpointError) if generation.exists() else None,
        tokenizer=tokenizer,
        tensors=tensors,
        chat_template=read_chat_template(folder),
    )


def _locate(source: str | Path, folder: Path, revision: str | None) -> tuple[Path, str | None]:
    """The folder, and the commit where it came from a hub. A Path is never a hub's model id."""
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(
                f"{folder} is a folder, which has no revision {shown(revision)}; leave the revision"
                " out",
                path=folder,
                name="revision",
            )
        return folder, None
    if folder.exists():
        raise CheckpointError(f"{folder} is a file; give the folder that it lies in", path=folder)
    if isinstance(source, str) and HUB_ID.fullmatch(source):
        snapshot = fetch(source, revision)
        return snapshot.folder, snapshot.commit
    raise CheckpointError(
        f"{folder}: no such folder, nor can it be the id of a hub's model", path=folder
    )


def _some(names: frozenset[str]) -> str:
    first = [f"{name:.100}" for name in sorted(names)[:3]]
    return ", ".join(first) + (f" and {len(names) - 3} others" if len(names) > 3 else "") or "none"
