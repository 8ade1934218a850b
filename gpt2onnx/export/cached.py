"""Model folders in the user's cache: exported when first asked for."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from gpt2onnx.errors import CheckpointError, OutputExistsError, StorageError
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from gpt2onnx.export.exporter import export
from gpt2onnx.export.quantization.table import choose
from gpt2onnx.export_digest import export_digest
from gpt2onnx.files import path_errors
from gpt2onnx.paths import cache_folder

DEFAULT = "onnxruntime"  # whom a folder is for


class CachedExports:
    """Of one checkpoint, a folder or a hub's model id. Raises CheckpointError and its kinds."""

    def __init__(self, source: str | Path, progress: bool = False) -> None:
        self._progress = progress
        self._checkpoint = open_checkpoint(source)
        self._folder = cache_folder() / "compare" / self.identity

    @property
    def identity(self) -> str:
        """Changes when a file of the checkpoint does, and when the export does."""
        folder = self._checkpoint.folder
        with path_errors(folder, CheckpointError):
            files = sorted(path for path in folder.iterdir() if path.is_file())
            marks = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        told = repr((export_digest(), str(folder.resolve()), marks))
        return hashlib.sha256(told.encode()).hexdigest()[:24]

    def __call__(
        self, precision: str, device: str, runtime: str = DEFAULT, graph: str | None = None
    ) -> Path:
        """The model folder. Raises as `export` does; at once for what the fused graph can't do."""
        choose(precision, device)
        own = f"-{runtime}-{graph or 'own'}" if (runtime, graph) != (DEFAULT, None) else ""
        return export_once(
            self._checkpoint.folder.resolve(),  # for the manifest, read anywhere
            self._folder / f"{precision}-{device}{own}",
            precision=precision,
            device=device,
            runtime=runtime,
            graph=graph,
            progress=self._progress,
        )


def export_once(source: Path, out: Path, **options: Any) -> Path:
    """`out`, a folder in the cache, exported there now where it isn't yet.

    Raises as `export` does; StorageError where the cache can't be written.
    """
    try:
        if out.exists():
            return out
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{cache_folder()}: no cache can be made there: {error.strerror}; set "
            "GPT2ONNX_CACHE to a folder that can be written",
            path=cache_folder(),
        ) from error
    with contextlib.suppress(OutputExistsError):  # another process was faster
        export(source, out, verify=False, **options)
    return out
