"""The bundled models: a small GPT-2 trained on Python's standard library, and a smaller draft.

`model` and `draft` are checkpoints as transformers writes them; `python -m training` made both.
"""

from __future__ import annotations

from pathlib import Path

from gpt2onnx.export_digest import export_digest
from gpt2onnx.paths import cache_folder

DEMO, DEMO_DRAFT = "demo", "demo-draft"
CHECKPOINT = Path(__file__).parent / "model"
DRAFT = Path(__file__).parent / "draft"
# The checkpoints by the names that stand for them wherever a model is wanted.
BUNDLED = {DEMO: CHECKPOINT, DEMO_DRAFT: DRAFT}
# The modules that neither has seen, one name a line: for measuring.
HELD_OUT = Path(__file__).parent / "held_out.txt"


def exported(name: str = DEMO, precision: str = "int8", device: str = "cpu") -> Path:
    """A bundled model's folder in the user's cache, exported now where it isn't there yet."""
    out = folder(name, precision, device)
    if is_there(out):
        return out
    # Only a first use needs the export's packages.
    from gpt2onnx.export.cached import export_once

    return export_once(BUNDLED[name], out, precision=precision, device=device)


def is_there(out: Path) -> bool:
    """Whether it is exported already. What is wrong with the cache is the export's to say."""
    try:
        return out.exists()
    except OSError:
        return False


def folder(name: str = DEMO, precision: str = "int8", device: str = "cpu") -> Path:
    """Where `exported` puts it: a place of its own for each set of weights and export."""
    weights = (BUNDLED[name] / "model.safetensors").stat()
    key = f"{export_digest()}-{weights.st_size}-{weights.st_mtime_ns}"
    return cache_folder() / name / key / f"{precision}-{device}"
