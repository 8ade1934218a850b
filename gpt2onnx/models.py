"""A model by its name: a folder, or "demo" for the bundled one and "demo-draft" for its draft.

Knows where models are; knows nothing of how they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2onnx import demo
from gpt2onnx.demo import BUNDLED, DEMO
from gpt2onnx.errors import ModelFolderError
from gpt2onnx.files import as_path
from gpt2onnx.runtime.open_model import open_model
from gpt2onnx.runtime.ort.load_params import check_load
from gpt2onnx.runtime.ort.provider import export_device

if TYPE_CHECKING:
    from gpt2onnx.runtime.model import Model


def resolve(name: str | Path, provider: str = "auto") -> Path:
    """The folder that a name stands for; a bundled model is exported on its first use.

    For CUDA where that is the provider: it wants a graph of its own. Raises ModelFolderError for
    what is no path.
    """
    path = as_path(name, "folder", ModelFolderError)
    return demo.exported(str(name), device=export_device(provider)) if name in BUNDLED else path


def load(
    folder: str | Path = DEMO,
    provider: str = "auto",
    provider_options: Mapping[str, object] | None = None,
    threads: int | None = None,
    startup_cache: bool = True,
    graph: str = "auto",
) -> Model:
    """Open a model folder, one of `gpt2onnx export` or of Optimum's.

    provider: "auto" (CUDA where it runs, else the CPU), "cpu", "cuda", or any ONNX Runtime
    provider's name, with its `provider_options`. threads: for the CPU; by default what the process
    may use. startup_cache: on the CPU, keep the optimised and packed model in the user's cache
    folder, and map it from there the next time; `gpt2onnx cache` lists what is kept.
    graph: "kernels" is the one in gpt2onnx-kernels' operators, "onnx" that in ONNX Runtime's;
    "auto" the first on the CPU, where the package is installed and has something for the processor.

    Raises ModelFolderError, CorruptModelError, ProviderError, InstallationError.
    """
    check_load(provider, provider_options, threads, startup_cache)
    alike = partial(
        load,
        provider=provider,
        provider_options=provider_options,
        threads=threads,
        startup_cache=startup_cache,
        graph=graph,
    )
    opened = open_model(
        resolve(folder, provider),
        provider,
        provider_options,
        threads,
        startup_cache,
        beside=_model_class,
        graph=graph,
    )
    return _model_class()(*opened, alike)


def _model_class() -> type[Model]:
    """Model, with most of the package: imported while ONNX Runtime is at work."""
    from gpt2onnx.runtime.model import Model

    return Model
