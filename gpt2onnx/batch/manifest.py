"""A job's manifest: what tells it from any other, and its shards. Written once, whole.

A job goes on only with the same input, model and parameters: what it left then is its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpt2onnx.batch.inputs import Input
from gpt2onnx.batch.shards import Shard
from gpt2onnx.errors import Advised, CorruptModelError, OutputExistsError, shown
from gpt2onnx.files import read_json, sha256
from gpt2onnx.runtime.folder.model_folder import ModelFolder

FORMAT_VERSION = 1
NAME = "manifest.json"
# Beside the graph: what says how texts become tokens, and which come.
_SETTINGS = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    "chat_template.jinja",
)
_WHAT = {
    "gpt2onnx": "was begun by gpt2onnx {0}, this is {1}",
    "inputs": "has another input",
    "lines": "took its lines as {0}, not as {1}",
    "model": "has another model",
    "name": "called its model {0}, not {1}",
    "parameters": "has other parameters: {0}, not {1}",
    "ordered": "was begun with ordered={0}",
}


@dataclass(frozen=True)
class Manifest:
    """A job. `inputs` are names, digests and forms; a digest is None where none can be had."""

    gpt2onnx: str
    inputs: list[list[str | None]]
    lines: str
    model: Mapping[str, Any]
    name: str
    parameters: Mapping[str, Any]
    ordered: bool
    created: int
    replaces: bool  # an output that was there
    shards: list[Shard] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The lines of all shards."""
        return sum(shard.lines for shard in self.shards)

    def write(self, folder: Path) -> None:
        """Write it, so that it is there whole or not at all. Raises OSError."""
        part = folder / f"{NAME}.part"
        with part.open("w", encoding="utf-8") as file:
            json.dump({"format_version": FORMAT_VERSION, **asdict(self)}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / NAME)

    def require_same(self, other: Manifest, folder: Path) -> None:
        """Raises OutputExistsError where another job left this one."""
        for name, why in _WHAT.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                told = why.format(shown(mine), shown(theirs))
                raise OutputExistsError(
                    f"{folder}: the unfinished job there {told}; ",
                    *(Advised("force", True), " begins anew"),
                    path=folder,
                )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a job's folder; None where none was begun. Raises OutputExistsError."""
    if not (folder / NAME).exists():
        return None
    found = read_json(folder / NAME, OutputExistsError)
    try:
        if found.pop("format_version") != FORMAT_VERSION:
            raise ValueError
        return Manifest(**{**found, "shards": [Shard(*each) for each in found["shards"]]})
    except (KeyError, TypeError, ValueError):
        raise OutputExistsError(
            f"{folder / NAME}: no manifest of this gpt2onnx; ",
            *(Advised("force", True), " begins the job anew"),
            path=folder / NAME,
        ) from None


def digests(inputs: Sequence[Input]) -> list[list[str | None]]:
    """What tells the input from any other."""
    return [[each.form, each.sha256] for each in inputs]


def model_identity(folder: ModelFolder, options: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a model's answers from any other's: its files, and where it runs."""
    there = [name for name in _SETTINGS if (folder.path / name).exists()]
    settings = {name: sha256(folder.path / name, CorruptModelError) for name in there}
    return {"graph": dict(folder.identity()), "settings": settings, "options": dict(options)}


def as_json(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON gives them back."""
    back: dict[str, Any] = json.loads(json.dumps(parameters))
    return back
