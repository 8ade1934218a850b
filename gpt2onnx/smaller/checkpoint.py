"""A checkpoint made of another: what transformers' save_pretrained writes, and `export` reads.

The source is read by the export's own reader (`Checkpoint`: safetensors or PyTorch files, in shards
or not, a folder or a hub's model). What is made of it gives its tensors by the same seam,
`Weights`: a name's values when they are asked for. Knows nothing of how it is made smaller.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2onnx.errors import TokenizerError
from gpt2onnx.export.checkpoint.chat_template import CHAT_TEMPLATE
from gpt2onnx.export.checkpoint.checkpoint import (
    HEAD,
    PREFIX,
    Checkpoint,
    Weights,
    open_checkpoint,
    tensor_shapes,
)
from gpt2onnx.export.checkpoint.config import ALIASES, Gpt2Config
from gpt2onnx.export.checkpoint.floats import FLOATS
from gpt2onnx.export.checkpoint.tokenizer import TOKENIZER_FILES
from gpt2onnx.export.writing.folder import staged, write_json
from gpt2onnx.export.writing.progress import Track, silent
from gpt2onnx.files import path_errors, read_bytes
from gpt2onnx.smaller.safetensors_writer import write_safetensors
from gpt2onnx.tokenizer.file import MAX_BYTES

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class NewCheckpoint:
    """What is to be written. `weights.config` is what `config_json` says.

    dtype: "F32", "F16" or "BF16". files: others by name, the tokenizer's among them.
    """

    weights: Weights
    dtype: str
    config_json: Mapping[str, Any]
    generation_config: Mapping[str, Any] | None
    files: Mapping[str, bytes]

    def write(self, out: Path, track: Track = silent) -> None:
        """Write a folder at `out`, which appears whole or not at all.

        Raises OutputExistsError where something is there, StorageError, WeightsError.
        """
        with staged(out, force=None) as folder:
            write_json(folder / "config.json", self.config_json)
            if self.generation_config is not None:
                write_json(folder / "generation_config.json", self.generation_config)
            for name, content in self.files.items():
                (folder / name).write_bytes(content)
            self._write_weights(folder / WEIGHTS, track)

    def _write_weights(self, path: Path, track: Track) -> None:
        shapes = tensor_shapes(self.weights.config)
        stored = {name if name == HEAD else PREFIX + name: name for name in shapes}
        write_safetensors(
            path,
            self.dtype,
            {name: shapes[short] for name, short in stored.items()},
            lambda name: self.weights.tensor(stored[name]),
            track,
        )


def open_source(source: str | Path, revision: str | None = None) -> Checkpoint:
    """A checkpoint whose weights fit its config. Raises as `open_checkpoint` does."""
    checkpoint = open_checkpoint(source, revision)
    checkpoint.check()
    return checkpoint


def with_options(config_json: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """A config.json with other values for `options`, for a model that has a head on top.

    Their other names go: transformers would take the value from there.
    """
    kept = {key: value for key, value in config_json.items() if ALIASES.get(key) not in options}
    return {**kept, **options, "architectures": ["GPT2LMHeadModel"]}


def tokenizer_files(folder: Path) -> dict[str, bytes]:
    """A checkpoint's own tokenizer files, and its chat template. Raises TokenizerError."""
    names = (*TOKENIZER_FILES, CHAT_TEMPLATE)
    with path_errors(folder, TokenizerError):
        there = [name for name in names if (folder / name).exists()]
    return {name: read_bytes(folder / name, TokenizerError, MAX_BYTES) for name in there}


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """A JSON file of a checkpoint, for `NewCheckpoint.files`."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def weights_bytes(config: Gpt2Config, dtype: str) -> int:
    """What the weights take on disk."""
    return sum(map(math.prod, tensor_shapes(config).values())) * FLOATS[dtype].itemsize
