"""ONNX Runtime's errors as errors of this package.

ONNX Runtime raises them without a common base and mostly under one code, FAIL, so the text decides.
Knows the texts of ONNX Runtime 1.31, and nothing of sessions; a text that it doesn't know still
becomes one line that shows it.
"""

from __future__ import annotations

import re
from pathlib import Path

from gpt2onnx.errors import (
    Advised,
    CorruptModelError,
    Given,
    Gpt2OnnxError,
    ModelFolderError,
    OutOfMemoryError,
    ParameterError,
    ProviderError,
)
from gpt2onnx.runtime.ort.kernels import DOMAIN, PACKAGE
from gpt2onnx.runtime.ort.provider import Provider

# A model file, or the tensors beside it, was cut, changed or lost.
DAMAGE = (
    "Protobuf parsing failed",
    "No graph was found",
    "External data path",
    "External initializer",
)
# Memory ran out: ONNX Runtime's allocator, CUDA's, and C++'s.
NO_MEMORY = ("Failed to allocate memory", "out of memory", "bad_alloc")


def explained(
    error: Exception, model: str | Path | bytes, provider: Provider, version: str
) -> Gpt2OnnxError:
    """What went wrong when ONNX Runtime `version` opened `model` on `provider`."""
    text = plain(str(error))
    file = None if isinstance(model, bytes) else Path(model)
    name = "the model" if file is None else str(file)
    if "provider option" in text and "CUDA failure" not in text:
        return ParameterError(Given("provider_options"), f" of {provider.short}: {text}")
    if "graph capture feature" in text:
        return ParameterError(
            Given(provider.capture_option or "provider_options"),
            f" can't be for {name}: {text}; leave it out, or use a model of {provider.wants}",
        )
    if any(sign in text for sign in DAMAGE):
        said = f"is damaged: {text}; export it or fetch it again"
        if file and _is_pointer(file):
            said = "is git-lfs's pointer to a file: run `git lfs pull`"
        return CorruptModelError(f"{name} {said}", path=file)
    if f"{DOMAIN}:" in text and "is not a registered" in text:
        return ModelFolderError(
            f"{name} wants an operator that the installed {PACKAGE} doesn't have ({text}): build "
            "that anew, by `pip install ./kernels` in the project's folder, or use ",
            Advised("graph", "onnx"),
            path=file,
        )
    if provider.runs_all or "Load model from" in str(error):
        return ModelFolderError(f"{name} can't be run by ONNX Runtime {version}: {text}", path=file)
    return ProviderError(f"{provider.short} can't run {name}: {text}", name=provider.short)


def out_of_memory(error: Exception, provider: str) -> OutOfMemoryError | None:
    """What to raise for an error of a run or an allocation; None where memory isn't the reason."""
    text = plain(str(error))
    if not any(sign in text for sign in NO_MEMORY):
        return None
    return OutOfMemoryError(
        f"{provider} has no memory left ({text}): take fewer sequences at once, or shorter ones",
        name=provider,
    )


def unfit(file: Path | None, said: str, name: str | None = None) -> ModelFolderError:
    """What to raise where a graph isn't what is wanted of one; `name` is a tensor to blame."""
    return ModelFolderError(f"{file}: {said}" if file else said, path=file, name=name)


def failed(error: Exception, provider: Provider, file: Path | None) -> Gpt2OnnxError:
    """What to raise for an error of a run."""
    if full := out_of_memory(error, provider.short):
        return full
    text = plain(str(error))
    if provider.runs_all:
        return unfit(file, f"the graph can't be run: {text}; export the model again")
    name = file or "the model"
    return ProviderError(f"{provider.short} failed to run {name}: {text}", name=provider.short)


def plain(text: str) -> str:
    """ONNX Runtime's message on one line, without its codes and the places in its source."""
    text = " ".join(text.split())
    text = re.sub(r"/onnxruntime_src/\S+:\d+ .*?\)(?: \[with .*?\])? (?=[A-Z[])", "", text)
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : |\b\w+\.(?:h|cc):\d+ \w+ ", "", text)
    text = re.sub(r"Load model from .*? failed:", "", text)
    return text.partition(" ; GPU=")[0].rstrip(" .")


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(23) == b"version https://git-lfs"
