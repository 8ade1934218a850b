"""Whether the optional kernels are taken, by a stand-in for their package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2onnx.errors import InstallationError, ModelFolderError, ParameterError
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.ort.kernels import VARIABLE, Kernels, chosen_kernels, installed_kernels
from tests.raising import raises

LIBRARY = Path("libkernels.so")


@pytest.fixture(autouse=True)
def _not_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def package(monkeypatch: pytest.MonkeyPatch, *names: str, error: Exception | None = None) -> None:
    def library() -> Path:
        if error:
            raise error
        return LIBRARY

    module: Any = SimpleNamespace(library=library, kernels_here=lambda: names)
    monkeypatch.setitem(sys.modules, "gpt2onnx_kernels", module)


def test_the_best_kernels_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    package(monkeypatch, "avx2", "scalar")
    assert installed_kernels() == Kernels(LIBRARY, "avx2")


def test_why_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpt2onnx_kernels", None)
    with pytest.raises(InstallationError, match="isn't installed"):
        installed_kernels()
    package(monkeypatch, "scalar")
    with pytest.raises(InstallationError, match="nothing for this processor"):
        installed_kernels()
    package(monkeypatch, "avx2")
    monkeypatch.setenv(VARIABLE, "off")
    with pytest.raises(InstallationError, match="switched off by GPT2ONNX_KERNELS=off"):
        installed_kernels()
    monkeypatch.delenv(VARIABLE)
    package(monkeypatch, error=FileNotFoundError("libkernels.so: not there"))
    with pytest.raises(InstallationError, match=r"can't be used: libkernels\.so"):
        installed_kernels()


def test_the_choice(monkeypatch: pytest.MonkeyPatch, models: Callable[[str], Path]) -> None:
    int8, fp16 = open_folder(models("int8")), open_folder(models("fp16"))
    monkeypatch.setitem(sys.modules, "gpt2onnx_kernels", None)
    assert chosen_kernels(int8, "auto", "cpu") is None
    with pytest.raises(InstallationError):
        chosen_kernels(int8, "kernels", "cpu")
    package(monkeypatch, "avx2", "scalar")
    assert chosen_kernels(int8, "auto", "cpu") == Kernels(LIBRARY, "avx2")
    assert chosen_kernels(int8, "onnx", "cpu") is None
    assert chosen_kernels(fp16, "auto", "cpu") is None
    with pytest.raises(ModelFolderError, match=r"has no model\.kernels\.onnx"):
        chosen_kernels(fp16, "kernels", "cpu")
    with pytest.raises(ParameterError, match="graph='kernels' runs on the CPU"):
        chosen_kernels(int8, "kernels", "cuda")
    with raises(ParameterError, parameters={"graph": "best"}):
        chosen_kernels(int8, "best", "cpu")
