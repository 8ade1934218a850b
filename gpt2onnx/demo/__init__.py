"""The bundled model: a small GPT-2 trained on Python's standard library, and a smaller draft.

`model` and `draft` are checkpoints as transformers writes them; scripts/train_demo.py made both.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from gpt2onnx.errors import OutputExistsError
from gpt2onnx.export_digest import export_digest
from gpt2onnx.paths import cache_folder

CHECKPOINT = Path(__file__).parent / "model"
DRAFT = Path(__file__).parent / "draft"
# The modules that neither has seen, one name a line: for measuring.
HELD_OUT = Path(__file__).parent / "held_out.txt"


def exported(precision: str = "int8") -> Path:
    """The bundled model's folder in the user's cache, exported now where it isn't there yet."""
    return _exported(CHECKPOINT, folder(precision), precision)


def exported_draft(precision: str = "int8") -> Path:
    """The same for the bundled draft."""
    return _exported(DRAFT, draft_folder(precision), precision)


def folder(precision: str = "int8") -> Path:
    """Where `exported` puts the model: a place of its own for each set of weights and export."""
    return _folder("demo", CHECKPOINT) / precision


def draft_folder(precision: str = "int8") -> Path:
    """Where `exported_draft` puts the draft."""
    return _folder("demo-draft", DRAFT) / precision


def _exported(checkpoint: Path, out: Path, precision: str) -> Path:
    if not out.exists():
        # Only a first use needs the export's packages.
        from gpt2onnx.export import export

        with contextlib.suppress(OutputExistsError):  # another process was faster
            export(checkpoint, out, precision=precision, verify=False)
    return out


def _folder(name: str, checkpoint: Path) -> Path:
    weights = (checkpoint / "model.safetensors").stat()
    key = f"{export_digest()}-{weights.st_size}-{weights.st_mtime_ns}"
    return cache_folder() / name / key
