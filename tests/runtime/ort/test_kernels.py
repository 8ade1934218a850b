"""Whether the optional kernels are taken, by a stand-in for their package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2onnx import doctor
from gpt2onnx.errors import (
    CorruptModelError,
    InstallationError,
    ModelFolderError,
    ParameterError,
)
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.ort.kernels import (
    VARIABLE,
    VERSION,
    Choice,
    Kernels,
    chosen_kernels,
    installed_kernels,
)
from tests.kernels_graph import as_of_version
from tests.raising import raises

LIBRARY = Path("libkernels.so")


@pytest.fixture(autouse=True)
def _not_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def package(
    monkeypatch: pytest.MonkeyPatch,
    *names: str,
    error: Exception | None = None,
    opset: int = VERSION,
) -> None:
    def library() -> Path:
        if error:
            raise error
        return LIBRARY

    module: Any = SimpleNamespace(library=library, kernels_here=lambda: names, OPSET=opset)
    monkeypatch.setitem(sys.modules, "gpt2onnx_kernels", module)


def test_the_best_kernels_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    package(monkeypatch, "avx2", "scalar")
    assert installed_kernels() == Kernels(LIBRARY, "avx2")


def test_kernels_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    package(monkeypatch, "avx-vnni", "avx2", "scalar")
    monkeypatch.setenv(VARIABLE, "avx2")
    assert installed_kernels().name == "avx2"
    monkeypatch.setenv(VARIABLE, "amx")
    with raises(ParameterError, parameters={VARIABLE: "amx"}) as caught:
        installed_kernels()
    assert "expected avx-vnni, avx2, scalar, which run here, or off" in str(caught.value)
    assert doctor._kernels().startswith("none: GPT2ONNX_KERNELS='amx'")


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
    package(monkeypatch, "avx2", opset=VERSION - 1)
    said = f"operators of version {VERSION - 1}, this gpt2onnx wants {VERSION}; `pip install"
    with pytest.raises(InstallationError, match=said):
        installed_kernels()
    package(monkeypatch, "avx2", opset=VERSION + 1)
    assert installed_kernels() == Kernels(LIBRARY, "avx2")


def test_the_choice(monkeypatch: pytest.MonkeyPatch, models: Callable[[str], Path]) -> None:
    int8, fp16 = open_folder(models("int8")), open_folder(models("fp16"))
    monkeypatch.setitem(sys.modules, "gpt2onnx_kernels", None)
    choice = chosen_kernels(int8, "auto", "cpu")
    assert choice.kernels is None
    assert choice.passed_over.startswith("gpt2onnx-kernels isn't installed")
    with pytest.raises(InstallationError):
        chosen_kernels(int8, "kernels", "cpu")
    package(monkeypatch, "avx2", "scalar")
    assert chosen_kernels(int8, "auto", "cpu") == Choice(Kernels(LIBRARY, "avx2"))
    assert chosen_kernels(int8, "onnx", "cpu") == Choice()
    assert chosen_kernels(int8, "auto", "cuda") == Choice()
    assert chosen_kernels(fp16, "auto", "cpu") == Choice()
    with pytest.raises(ModelFolderError, match=r"has no model\.kernels\.onnx"):
        chosen_kernels(fp16, "kernels", "cpu")
    with pytest.raises(ParameterError, match="graph='kernels' runs on the CPU"):
        chosen_kernels(int8, "kernels", "cuda")
    with raises(ParameterError, parameters={"graph": "best"}):
        chosen_kernels(int8, "best", "cpu")


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        (VERSION - 1, "export the model again"),
        (VERSION + 1, "export the model again, or install the gpt2onnx that wrote it"),
    ],
)
def test_a_graph_of_another_version_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
    models: Callable[[str], Path],
    tmp_path: Path,
    version: int,
    advice: str,
) -> None:
    package(monkeypatch, "avx2")
    folder = open_folder(as_of_version(version, models("int8"), tmp_path / "other"))
    graph = folder.path / "model.kernels.onnx"
    said = f"{graph} is of version {version}, this gpt2onnx runs {VERSION}: {advice}"
    assert chosen_kernels(folder, "auto", "cpu") == Choice(passed_over=said)
    assert chosen_kernels(folder, "onnx", "cpu") == Choice()
    with raises(ModelFolderError, path=folder.path, name="model.kernels.onnx") as caught:
        chosen_kernels(folder, "kernels", "cpu")
    assert str(caught.value) == f"{said}, or use graph='onnx'"


@pytest.mark.parametrize("graph", ["auto", "kernels"])
def test_a_damaged_graph_is_an_error(
    monkeypatch: pytest.MonkeyPatch, models: Callable[[str], Path], tmp_path: Path, graph: str
) -> None:
    """Nobody chose it: the folder isn't what was exported."""
    package(monkeypatch, "avx2")
    folder = as_of_version(VERSION, models("int8"), tmp_path / "other")
    file = folder / "model.kernels.onnx"
    file.write_bytes(file.read_bytes()[:1000])
    with raises(CorruptModelError, path=file):
        chosen_kernels(open_folder(folder), graph, "cpu")
