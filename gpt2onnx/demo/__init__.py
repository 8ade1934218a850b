"""The bundled model: a small GPT-2 trained on Python's standard library, and a draft of a tenth its size.

`model` and `draft` are checkpoints as transformers writes them; scripts/train_demo.py made both.
"""

from __future__ import annotations

from pathlib import Path

import gpt2onnx
from gpt2onnx.errors import OutputExistsError
from gpt2onnx.paths import cache_folder

CHECKPOINT = Path(__file__).parent / "model"
DRAFT = Path(__file__).parent / "draft"


def exported(precision: str = "int8") -> Path:
    """The bundled model's folder in the user's cache, exported now where it isn't there yet."""
    weights = (CHECKPOINT / "model.safetensors").stat()
    key = f"{gpt2onnx.__version__}-{weights.st_size}-{weights.st_mtime_ns}"
    folder = cache_folder() / "demo" / key / precision
    if not folder.exists():
        # Only a first use needs the export's packages.
        from gpt2onnx.export import export

        try:
            export(CHECKPOINT, folder, precision=precision, verify=False)
        except OutputExistsError:  # another process was faster
            pass
    return folder
