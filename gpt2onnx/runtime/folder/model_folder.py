"""A model folder on disk: what it holds, and whether it is whole.

Knows files, the manifest and the checkpoint's own settings; opens no session. A folder that
another exporter wrote (Optimum's, the ONNX Community's) has no manifest and is recognised by its
graph's inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2onnx.errors import CorruptModelError, ModelFolderError, shown
from gpt2onnx.files import as_path, path_errors, read_json, require_regular, sha256
from gpt2onnx.runtime.folder.checked import recall, remember
from gpt2onnx.runtime.folder.manifest import MANIFEST, SETTINGS, read_manifest

# Where other exporters put a decoder with a cache: Optimum, its older merged form, transformers.js.
GRAPHS = ("model.onnx", "decoder_model_merged.onnx", "onnx/model.onnx")
# The same decoder in the operators of gpt2onnx-kernels, beside model.onnx.
KERNELS_GRAPH = "model.kernels.onnx"
# And in a loop, for drafts.
DRAFT_GRAPH = "model.draft.onnx"
# What transformers names the files of a checkpoint's weights, their shards and indices.
WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")
# No model has as many positions, and their numbers are int32 in many a graph.
MOST_POSITIONS = 2**31 - 1


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a graph, its settings and its tokenizer."""

    path: Path
    graph: Path
    manifest: Mapping[str, Any] | None
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any] | None

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def n_positions(self) -> int:
        """The most tokens that the model can see."""
        value = self.config.get("n_positions", self.config.get("max_position_embeddings"))
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelFolderError(
                f"{self.path / 'config.json'}: n_positions is {shown(value)}, expected a positive "
                "number",
                path=self.path / "config.json",
                name="n_positions",
            )
        if value > MOST_POSITIONS:
            raise ModelFolderError(
                f"{self.path / 'config.json'}: n_positions is {shown(value)}, expected at most "
                f"{MOST_POSITIONS}",
                path=self.path / "config.json",
                name="n_positions",
            )
        return value

    def graph_size(self) -> int:
        """Bytes of the graph and of the weights beside it."""
        return sum(file.stat().st_size for file in self._graph_files())

    def identity(self) -> Mapping[str, Any]:
        """What tells this graph with its weights from any other, in JSON's types.

        The manifest's checksums, wherever the folder lies; they are the files' once
        `check_once` has passed. Without a manifest sizes and times of the files there.
        """
        return self._identity_of(self._graph_files())

    def tokenizer_identity(self) -> Mapping[str, Any]:
        """The same of its tokenizer."""
        return self._identity_of([self.tokenizer])

    def _identity_of(self, files: Sequence[Path]) -> Mapping[str, Any]:
        if self.manifest:
            listed = self.manifest["files"]
            names = [file.relative_to(self.path).as_posix() for file in files]
            if all(name in listed for name in names):
                return {name: listed[name]["sha256"] for name in names}
        return {str(file.resolve()): _marks(file) for file in files}

    def _graph_files(self) -> list[Path]:
        """The graph, and the weights beside it: whatever isn't another graph, or text."""
        beside = [file for file in self.graph.parent.iterdir() if file.is_file()]
        other = {".onnx", ".json", ".txt", ".md"}
        weights = sorted(file for file in beside if file.suffix not in other)
        return [self.graph, *(file for file in weights if not file.name.startswith("."))]

    def check_hashes(self) -> None:
        """Compare every file with the manifest's sha256, but for the settings, which may be edited.

        Raises CorruptModelError for the first file that differs, ModelFolderError where the folder
        has no manifest to compare with.
        """
        if self.manifest is None:
            raise ModelFolderError(
                f"{self.path}: no {MANIFEST}, so there are no checksums to check",
                path=self.path,
                name=MANIFEST,
            )
        for name, entry in self.manifest["files"].items():
            if name in SETTINGS:
                continue
            found = _sha256(self.path / name)
            if found != entry["sha256"]:
                raise CorruptModelError(
                    f"{self.path / name}: sha256 is {found[:16]}…, the manifest says "
                    f"{entry['sha256'][:16]}…: the file was changed; export the model again",
                    path=self.path / name,
                )

    def edited_settings(self) -> list[str]:
        """The files of settings that aren't as the export wrote them; without a manifest none."""
        listed = self.manifest["files"] if self.manifest else {}
        return [
            name
            for name in SETTINGS
            if name in listed and _sha256(self.path / name) != listed[name]["sha256"]
        ]

    def check_once(self, largest_token_id: Callable[[], int]) -> int:
        """`check_hashes` where there is a manifest, and what `largest_token_id` finds.

        Of files that passed before both are remembered in the user's cache folder: sizes and times
        of the files stand for their content. Without a cache, or where it can't be written to, they
        are checked again the next time.
        """
        fingerprint = self._fingerprint()
        if (known := recall(self.path, fingerprint)) is not None:
            return known
        if self.manifest is not None:
            self.check_hashes()
        largest = largest_token_id()
        remember(self.path, fingerprint, largest)
        return largest

    def _fingerprint(self) -> str:
        """Changes when any file of the folder is written to but its settings."""
        listed = {MANIFEST, *self.manifest["files"]} if self.manifest else set()
        names = sorted((listed | {self.tokenizer.name}) - set(SETTINGS))
        marks = [_marks(self.path / name) for name in names]
        return hashlib.sha256(json.dumps([str(self.path.resolve()), marks]).encode()).hexdigest()


def open_folder(path: str | Path) -> ModelFolder:
    """Read a folder's settings and check that its files are there, with the manifest's sizes.

    Raises ModelFolderError where it is no model folder or a later version's, CorruptModelError
    where a file is missing or has another size.
    """
    path = as_path(path, "folder", ModelFolderError)
    with path_errors(path, ModelFolderError):
        if not path.is_dir():
            what = "is a file" if path.exists() else "doesn't exist"
            raise ModelFolderError(
                f"{path}: {what}, expected a model folder; `gpt2onnx export SOURCE OUT` makes one",
                path=path,
            )
        manifest = read_manifest(path)
        graph = _find_graph(path)
        config = _read_json(path / "config.json")
        if not (path / "tokenizer.json").exists():
            raise ModelFolderError(
                f"{path}: no tokenizer.json; transformers' AutoTokenizer.from_pretrained(…)"
                ".save_pretrained(…) writes it",
                path=path,
                name="tokenizer.json",
            )
        require_regular(path / "tokenizer.json", ModelFolderError)
        generation = path / "generation_config.json"
        settings = read_json(generation, ModelFolderError) if generation.exists() else None
    return ModelFolder(path, graph, manifest, config, settings)


def is_model_folder(path: Path) -> bool:
    """Whether this is a model folder, whole or not, rather than a checkpoint or no folder.

    A checkpoint may have graphs beside its weights, as clones from the hub do.
    """
    if (path / MANIFEST).exists():
        return True
    return _holds(path, "*.onnx", "onnx/*.onnx") and not _holds(path, *WEIGHTS)


def _holds(path: Path, *patterns: str) -> bool:
    return any(True for pattern in patterns for _ in path.glob(pattern))


def _find_graph(path: Path) -> Path:
    """The graph. What lies beside it may be its weights, and must be files, too."""
    named = [path / name for name in GRAPHS if (path / name).exists()]
    graphs = named[:1] or [*path.glob("*.onnx"), *path.glob("onnx/*.onnx")]
    if len(graphs) == 1:  # ORTQuantizer's model_quantized.onnx, and whatever else names itself
        for beside in graphs[0].parent.iterdir():
            if beside.exists() and not beside.is_dir():
                require_regular(beside, ModelFolderError)
        require_regular(graphs[0], ModelFolderError)
        return graphs[0]
    hint = (
        "a checkpoint? `gpt2onnx export` makes a model folder of it"
        if any(path.glob("*.safetensors")) or any(path.glob("*.bin"))
        else f"expected one of {', '.join(GRAPHS)}"
    )
    raise ModelFolderError(f"{path}: no ONNX model in it; {hint}", path=path)


def _read_json(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        raise ModelFolderError(f"{path}: missing; every model folder has one", path=path)
    return read_json(path, CorruptModelError)


def _marks(file: Path) -> list[int | str]:
    """Change when a file is written to, or another one takes its place."""
    s = file.stat()
    return [str(s.st_dev), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns]


def _sha256(path: Path) -> str:
    return sha256(path, CorruptModelError)
