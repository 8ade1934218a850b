"""Model folders whose kernels' graph is of another version."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

from gpt2onnx.runtime.folder.manifest import MANIFEST
from gpt2onnx.runtime.folder.model_folder import KERNELS_GRAPH
from gpt2onnx.runtime.ort.kernels import DOMAIN


def as_of_version(version: int, folder: Path, out: Path) -> Path:
    """A copy of a folder, without its manifest, whose kernels' graph asks for that version."""
    shutil.copytree(folder, out)
    (out / MANIFEST).unlink()
    model = onnx.load(out / KERNELS_GRAPH, load_external_data=False)
    for opset in model.opset_import:
        opset.version = version if opset.domain == DOMAIN else opset.version
    (out / KERNELS_GRAPH).write_bytes(model.SerializeToString())
    return out
