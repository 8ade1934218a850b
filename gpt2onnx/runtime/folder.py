"""A model folder on disk: what it holds, and whether it is whole.

Knows files, the manifest and the checkpoint's own settings; opens no session. A folder that
another exporter wrote (Optimum's, the ONNX Community's) has no manifest and is recognised by its
graph's inputs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2onnx.errors import CorruptModelError, ModelFolderError
from gpt2onnx.paths import cache_folder

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
# Where other exporters put a decoder with a cache: Optimum, its older merged form, transformers.js.
GRAPHS = ("model.onnx", "decoder_model_merged.onnx", "onnx/model.onnx")
# The same decoder in the operators of gpt2onnx-kernels, beside model.onnx.
KERNELS_GRAPH = "model.kernels.onnx"
# What transformers names the files of a checkpoint's weights, their shards and indices.
WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a graph, its settings and its tokenizer."""

    path: Path
    graph: Path
    manifest: Mapping[str, Any] | None
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any]

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def n_positions(self) -> int:
        """The most tokens that the model can see."""
        value = self.config.get("n_positions", self.config.get("max_position_embeddings"))
        if not isinstance(value, int) or value < 1:
            raise ModelFolderError(
                f"{self.path / 'config.json'}: n_positions is {value!r}, expected a positive number"
            )
        return value

    def graph_size(self) -> int:
        """Bytes of the graph and of the weights beside it."""
        return sum(file.stat().st_size for file in self._graph_files())

    def identity(self) -> Mapping[str, Any]:
        """What tells this graph with its weights from any other, in JSON's types.

        The manifest's checksums, wherever the folder lies; they are the files' once
        `check_hashes_once` has passed. Without a manifest sizes and times of the files there.
        """
        files = self._graph_files()
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
        """Compare every file with the manifest's sha256.

        Errors: CorruptModelError for the first file that differs, ModelFolderError where the folder
        has no manifest to compare with.
        """
        if self.manifest is None:
            raise ModelFolderError(
                f"{self.path}: no {MANIFEST}, so there are no checksums to check"
            )
        for name, entry in self.manifest["files"].items():
            found = _sha256(self.path / name)
            if found != entry["sha256"]:
                raise CorruptModelError(
                    f"{self.path / name}: sha256 is {found[:16]}…, the manifest says "
                    f"{entry['sha256'][:16]}…: the file was changed; export the model again"
                )

    def check_hashes_once(self) -> None:
        """`check_hashes`, unless the same files passed it before.

        Sizes and times of the files stand for their content from then on; that is remembered in the
        user's cache folder. A cache that can't be written to means checking again next time.
        """
        if self.manifest is None:
            return
        passed = cache_folder() / "checked" / self._fingerprint()
        with contextlib.suppress(OSError):
            if passed.exists():
                return
        self.check_hashes()
        with contextlib.suppress(OSError):
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.touch()

    def _fingerprint(self) -> str:
        """Changes when any file of the folder is written to."""
        names = [MANIFEST, *sorted(self.manifest["files"])] if self.manifest else []
        marks = [_marks(self.path / name) for name in names]
        return hashlib.sha256(json.dumps([str(self.path.resolve()), marks]).encode()).hexdigest()


def open_folder(path: str | Path) -> ModelFolder:
    """Read a folder's settings and check that its files are there, with the manifest's sizes.

    Errors: ModelFolderError where it is no model folder or a later version's, CorruptModelError
    where a file is missing or has another size.
    """
    path = Path(path)
    if not path.is_dir():
        what = "is a file" if path.exists() else "doesn't exist"
        raise ModelFolderError(
            f"{path}: {what}, expected a model folder; `gpt2onnx export SOURCE OUT` makes one"
        )
    manifest = _read_manifest(path)
    graph = _find_graph(path)
    config = _read_json(path / "config.json")
    if not (path / "tokenizer.json").is_file():
        raise ModelFolderError(
            f"{path}: no tokenizer.json; transformers' AutoTokenizer.from_pretrained(…)"
            ".save_pretrained(…) writes it"
        )
    generation = path / "generation_config.json"
    settings = _read_json(generation) if generation.exists() else {}
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


def _read_manifest(path: Path) -> Mapping[str, Any] | None:
    if not (path / MANIFEST).exists():
        return None
    manifest = _read_json(path / MANIFEST)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelFolderError(
            f"{path / MANIFEST}: format version {version!r}, this gpt2onnx reads {FORMAT_VERSION}; "
            "export the model again, or install the gpt2onnx that wrote it"
        )
    for name, entry in _listed_files(path / MANIFEST, manifest).items():
        file = path / name
        if not file.is_file():
            raise CorruptModelError(f"{file}: missing, though the manifest lists it; export again")
        if file.stat().st_size != entry["size"]:
            raise CorruptModelError(
                f"{file}: {file.stat().st_size} bytes, the manifest says {entry['size']}: "
                "truncated or changed; copy or export the model again"
            )
    return manifest


def _listed_files(path: Path, manifest: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Size and sha256 of each file. Errors: CorruptModelError where the manifest lacks them."""
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(
        isinstance(entry, dict) and {"size", "sha256"} <= entry.keys() for entry in files.values()
    ):
        raise CorruptModelError(
            f'{path}: expected "files" with the size and sha256 of each; export the model again'
        )
    return files


def _find_graph(path: Path) -> Path:
    for name in GRAPHS:
        if (path / name).is_file():
            return path / name
    graphs = [*path.glob("*.onnx"), *path.glob("onnx/*.onnx")]
    if len(graphs) == 1:  # ORTQuantizer's model_quantized.onnx, and whatever else names itself
        return graphs[0]
    hint = (
        "a checkpoint? `gpt2onnx export` makes a model folder of it"
        if any(path.glob("*.safetensors")) or any(path.glob("*.bin"))
        else f"expected one of {', '.join(GRAPHS)}"
    )
    raise ModelFolderError(f"{path}: no ONNX model in it; {hint}")


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFolderError(f"{path}: missing; every model folder has one") from None
    except (OSError, ValueError) as error:
        raise CorruptModelError(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CorruptModelError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _marks(file: Path) -> list[int | str]:
    """Change when a file is written to, or another one takes its place."""
    s = file.stat()
    return [str(s.st_dev), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
