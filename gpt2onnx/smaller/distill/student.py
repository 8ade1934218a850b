"""The student before its training: some of its teacher's layers, as DistilGPT2 began.

A narrower one begins with its teacher's matrices between the stream's principal directions, with
some of the heads and of the inner units. That computes the teacher's function about as far as those
carry it, which is nearer than chance. Knows arrays; knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.export.checkpoint.checkpoint import HEAD, Arrays, Checkpoint
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.smaller.checkpoint import with_options
from gpt2onnx.smaller.queries import moved

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Student:
    """The student's config.json, and its first weights."""

    config_json: Mapping[str, Any]
    weights: Arrays


def student_of(teacher: Checkpoint, layers: int, width: int | None) -> Student:
    """A student of so many layers and, unless it is None, of another width, with heads as wide.

    Raises ParameterError for what its teacher doesn't have.
    """
    config = teacher.config
    width = config.n_embd if width is None else width
    _check(config, layers, width)
    options: dict[str, Any] = {"n_layer": layers}
    if width != config.n_embd:
        inner = round(config.n_inner * width / config.n_embd)
        options |= {"n_embd": width, "n_head": width // config.head_dim, "n_inner": inner}
    config_json = with_options(teacher.config_json, **options)
    new = Gpt2Config.from_json(config_json)
    taken = [int(layer) for layer in np.linspace(0, config.n_layer - 1, layers).round()]
    tensors = _copied(teacher, taken) if width == config.n_embd else _narrow(teacher, new, taken)
    return Student(config_json, Arrays(new, tensors))


def _check(config: Gpt2Config, layers: object, width: object) -> None:
    if type(layers) is not int or not 1 <= layers <= config.n_layer:
        raise ParameterError(
            Given("layers", layers), f": expected 1 to {config.n_layer}, as many as the teacher has"
        )
    if type(width) is not int or not 1 <= width <= config.n_embd or width % config.head_dim:
        raise ParameterError(
            Given("width", width),
            f": expected a multiple of {config.head_dim}, the heads' size, up to {config.n_embd}",
        )


def _copied(teacher: Checkpoint, taken: list[int]) -> dict[str, Array]:
    """The teacher's tensors, without the layers that aren't taken."""
    return {
        **{name: teacher.tensor(name) for name in _outer(teacher.config)},
        **{
            f"h.{new}.{part}": _placed(
                part, teacher.tensor(f"h.{old}.{part}"), teacher.config, old, new
            )
            for new, old in enumerate(taken)
            for part in PARTS
        },
    }


def _placed(part: str, values: Array, config: Gpt2Config, source: int, to: int) -> Array:
    """A layer's tensor, for a layer at another place."""
    return moved(values, config, source, to) if part.startswith("attn.c_attn") else values


PARTS = tuple(
    f"{module}.{kind}"
    for module in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    for kind in ("weight", "bias")
)


def _outer(config: Gpt2Config) -> list[str]:
    head = [] if config.tie_word_embeddings else [HEAD]
    return ["wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias", *head]


def _narrow(teacher: Checkpoint, new: Gpt2Config, taken: list[int]) -> dict[str, Array]:
    directions = _directions(teacher.tensor("wte.weight"), new.n_embd)  # [wide, narrow]
    # Layer norm gives a vector of as many times the length as there are more numbers in it.
    scale = np.float32((teacher.config.n_embd / new.n_embd) ** 0.5)
    gain = teacher.tensor("ln_f.weight")
    tensors = {
        name: teacher.tensor(name) @ directions
        for name in _outer(teacher.config)
        if not name.startswith("ln_f")
    }
    tensors["ln_f.weight"] = scale * (directions**2 * gain[:, None]).sum(0)
    tensors["ln_f.bias"] = teacher.tensor("ln_f.bias") @ directions
    for index, layer in enumerate(taken):
        narrow = _Block(teacher, f"h.{layer}.", directions, scale).narrow(new)
        tensors |= {
            f"h.{index}.{part}": _placed(part, values, new, layer, index)
            for part, values in narrow.items()
        }
    return tensors


def _directions(embedding: Array, count: int) -> Array:
    """The directions [wide, count] in which tokens' embeddings [vocab, wide] differ most."""
    _, vectors = np.linalg.eigh(embedding.T @ embedding)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count])


@dataclass(frozen=True)
class _Block:
    """A teacher's layer, to be seen through `directions`."""

    teacher: Checkpoint
    prefix: str
    directions: Array
    scale: np.float32

    def narrow(self, new: Gpt2Config) -> dict[str, Array]:
        heads, size = new.n_head, new.head_dim
        columns = self._best_heads(heads, size)
        units = self._best_units(new.n_inner)
        wide = self.teacher.config.n_embd
        attention = np.concatenate([part * wide + columns for part in range(3)])
        ones, zeros = np.ones(new.n_embd, np.float32), np.zeros(new.n_embd, np.float32)
        return {
            **dict.fromkeys(("ln_1.weight", "ln_2.weight"), ones),
            **dict.fromkeys(("ln_1.bias", "ln_2.bias"), zeros),
            **self._read("ln_1", "attn.c_attn", attention),
            **self._write("attn.c_proj", columns),
            **self._read("ln_2", "mlp.c_fc", units),
            **self._write("mlp.c_proj", units),
        }

    def _read(self, norm: str, module: str, columns: NDArray[np.int64]) -> dict[str, Array]:
        """A matrix that reads the stream, with its norm's gain and bias in it."""
        weight = self._tensor(f"{module}.weight")[:, columns]
        bias = self._tensor(f"{module}.bias")[columns] + self._tensor(f"{norm}.bias") @ weight
        weight = self._tensor(f"{norm}.weight")[:, None] * weight
        narrow = self.scale * (self.directions.T @ weight)
        return {f"{module}.weight": narrow, f"{module}.bias": bias}

    def _write(self, module: str, rows: NDArray[np.int64]) -> dict[str, Array]:
        """A matrix that adds to the stream."""
        weight = self._tensor(f"{module}.weight")[rows] @ self.directions
        return {
            f"{module}.weight": weight,
            f"{module}.bias": self._tensor(f"{module}.bias") @ self.directions,
        }

    def _best_heads(self, count: int, size: int) -> NDArray[np.int64]:
        """The channels [count * size] of the heads that add the largest numbers to the stream."""
        wide = self.teacher.config.n_embd
        values = self._tensor("attn.c_attn.weight")[:, 2 * wide :].reshape(wide, -1, size)
        outputs = self._tensor("attn.c_proj.weight").reshape(-1, size, wide)
        sizes = [np.linalg.norm(values[:, head] @ out) for head, out in enumerate(outputs)]
        best = np.sort(np.argsort(sizes)[::-1][:count])
        return (size * best[:, None] + np.arange(size)).ravel()

    def _best_units(self, count: int) -> NDArray[np.int64]:
        reads = np.linalg.norm(self._tensor("mlp.c_fc.weight"), axis=0)
        adds = np.linalg.norm(self._tensor("mlp.c_proj.weight"), axis=1)
        return np.sort(np.argsort(reads * adds)[::-1][:count])

    def _tensor(self, name: str) -> Array:
        return self.teacher.tensor(self.prefix + name)
