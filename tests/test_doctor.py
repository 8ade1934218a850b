from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from gpt2onnx import doctor
from gpt2onnx.doctor import Report, report
from gpt2onnx.errors import InstallationError, ProviderError
from gpt2onnx.runtime.ort import installation as providers
from gpt2onnx.runtime.ort import library


@pytest.fixture(scope="module")
def here() -> Report:
    return report()


def test_the_tiny_model_is_what_its_comment_says() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doctor", [x], [y])
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    assert onnx.load_from_string(doctor.TINY_MODEL) == model
    assert model.SerializeToString() == doctor.TINY_MODEL


def test_every_provider_built_in_is_tried(here: Report) -> None:
    names = [
        name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()
    ]
    assert [provider.name for provider in here.providers] == [name.lower() for name in names]
    cpu = next(provider for provider in here.providers if provider.name == "cpu")
    assert cpu.runs
    assert all(provider.detail for provider in here.providers)


def test_a_provider_that_opens_but_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        class raw:  # noqa: N801
            @staticmethod
            def run(names: None, feeds: dict) -> None:
                raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(doctor, "open_session", lambda model, name: Broken)
    tried = doctor._try("CUDAExecutionProvider")
    assert not tried.runs
    assert tried.detail == "opens, but doesn't run: no kernel image is available"


def test_a_broken_installation_is_the_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def conflict() -> None:
        raise InstallationError("two overwrite each other: pip uninstall both")

    monkeypatch.setattr(doctor, "providers_here", conflict)
    found = report()
    assert found.providers == ()
    assert found.advice == ("two overwrite each other: pip uninstall both",)
    assert "to do" in str(found)


def test_an_idle_nvidia_device_is_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = (doctor.Provider("cpu", True, ""),)
    cache = doctor.CacheFolder("/c", False, True)
    monkeypatch.setattr(providers, "driver_obstacle", lambda: None)
    (advice,) = doctor._advice(cpu, None, cache)
    assert "NVIDIA device" in advice
    assert advice.endswith("pip install 'gpt2onnx[gpu]'")
    monkeypatch.setattr(providers, "driver_obstacle", lambda: "there is no driver")
    assert doctor._advice(cpu, None, cache) == []


def test_the_cache_folder_is_looked_at_and_not_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "a/b"
    monkeypatch.setenv("GPT2ONNX_CACHE", str(folder))
    assert doctor._cache() == doctor.CacheFolder(str(folder), exists=False, writable=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").touch()  # a file where a folder is wanted
    cache = doctor._cache()
    assert not cache.writable
    assert "GPT2ONNX_CACHE" in doctor._advice((), None, cache)[0]


def test_without_a_home_there_is_no_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2ONNX_CACHE", "~nosuchuser/cache")
    assert doctor._cache() == doctor.CacheFolder("~nosuchuser/cache", exists=False, writable=False)


def test_extras_are_those_of_pyproject() -> None:
    file = Path(__file__).parents[1] / "pyproject.toml"
    declared = tomllib.loads(file.read_text())["project"]["optional-dependencies"]
    for name, packages in doctor.EXTRAS.items():
        wanted = [item.partition(">")[0].partition("<")[0] for item in declared[name]]
        assert [item for item in wanted if not item.startswith("gpt2onnx[")] == [*packages]


def test_a_missing_extra_comes_with_its_command() -> None:
    extra = doctor._extra("export", ("onnx", "no-such-package"))
    assert extra.packages["onnx"] == onnx.__version__
    assert extra.packages["no-such-package"] is None
    assert doctor._extra_text(extra) == "lacks no-such-package: pip install 'gpt2onnx[export]'"


def test_reads_as_json_and_as_text(here: Report) -> None:
    assert json.loads(json.dumps(here.as_dict()))["threads"]["default"] >= 1
    text = str(replace(here, advice=("do this",)))
    for part in (*here.versions, here.processor.model, here.cache.path, "runs: 1 + 1 = 2"):
        assert part in text
    assert text.splitlines()[-1].endswith("do this")
    assert "\n\n" not in text


def test_an_error_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's log is silent while a provider is tried, and as before behind it."""
    told: list[object] = []

    def refused(model: bytes, name: str) -> None:
        told.append("opening")
        raise ProviderError("libnvinfer.so.10 is missing")

    ort = SimpleNamespace(set_default_logger_severity=told.append)
    monkeypatch.setattr(library, "onnxruntime", lambda: ort)
    monkeypatch.setattr(doctor, "open_session", refused)
    assert doctor._try("TensorrtExecutionProvider").detail == "libnvinfer.so.10 is missing"
    assert told == [4, "opening", 2]
