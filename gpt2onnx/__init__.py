"""GPT-2 checkpoints as ONNX models, run by numpy and ONNX Runtime alone.

export(source, out)          checkpoint -> model folder
load(folder)                 model folder -> Model: generate, stream, score
run_batch(inputs, output)    files of prompts -> a file of answers, by several workers
evaluate(model, text)        perplexity, and how far from a reference's logits
GenerationParams             what generate and stream take, with transformers' names
Gpt2OnnxError                the base of every error; gpt2onnx.errors has the tree

Importing this package imports nothing: each name is loaded when first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gpt2onnx.errors import Gpt2OnnxError
    from gpt2onnx.evaluation import Evaluation, evaluate
    from gpt2onnx.export.exporter import Export, export
    from gpt2onnx.models import load
    from gpt2onnx.runtime.decoding.results import Generation, Score, Token
    from gpt2onnx.runtime.model import Model
    from gpt2onnx.samplers.params import GenerationParams
    from gpt2onnx.serving.engine import Engine
    from gpt2onnx.serving.handle import Handle

__version__ = "0.1.0"

__all__ = [
    "Engine",
    "Evaluation",
    "Export",
    "Generation",
    "GenerationParams",
    "Gpt2OnnxError",
    "Handle",
    "Model",
    "Score",
    "Token",
    "__version__",
    "evaluate",
    "export",
    "load",
    "run_batch",
]

_HOMES = {
    "Engine": "gpt2onnx.serving.engine",
    "Evaluation": "gpt2onnx.evaluation",
    "Export": "gpt2onnx.export.exporter",
    "Generation": "gpt2onnx.runtime.decoding.results",
    "GenerationParams": "gpt2onnx.samplers.params",
    "Gpt2OnnxError": "gpt2onnx.errors",
    "Handle": "gpt2onnx.serving.handle",
    "Model": "gpt2onnx.runtime.model",
    "Score": "gpt2onnx.runtime.decoding.results",
    "Token": "gpt2onnx.runtime.decoding.results",
    "evaluate": "gpt2onnx.evaluation",
    "load": "gpt2onnx.models",
    "run_batch": "gpt2onnx.batch.job",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "export":
        return importlib.import_module("gpt2onnx.export")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gpt2onnx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
