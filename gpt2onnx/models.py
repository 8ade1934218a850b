"""A model by its name: a folder, or "demo" for the bundled one and "demo-draft" for its draft.

Knows where models are; knows nothing of how they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gpt2onnx import demo
from gpt2onnx.runtime import model
from gpt2onnx.runtime.model import Model

DEMO = "demo"
DEMO_DRAFT = "demo-draft"


def resolve(name: str | Path) -> Path:
    """The folder that a name stands for; a bundled model is exported on its first use."""
    if name == DEMO_DRAFT:
        return demo.exported_draft()
    return demo.exported() if name == DEMO else Path(name)


def load(
    folder: str | Path = DEMO,
    provider: str = "auto",
    provider_options: Mapping[str, object] | None = None,
    threads: int | None = None,
    startup_cache: bool = True,
) -> Model:
    return model.load(resolve(folder), provider, provider_options, threads, startup_cache)


load.__doc__ = model.load.__doc__
