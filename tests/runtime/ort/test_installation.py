from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2onnx.errors import InstallationError
from gpt2onnx.runtime.ort import installation as providers
from tests.raising import raises


def install(folder: Path, *names: str, module: bool = True) -> Path:
    """Make `folder` look as if pip had installed these, written "name-version.dist-info"."""
    for name in names:
        (folder / name).mkdir(parents=True)
    (folder / "onnxruntime").mkdir(exist_ok=True)
    if module:
        (folder / "onnxruntime/__init__.py").touch()
    return folder


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):
    """A function that makes the given folders all that Python can import from."""

    def restrict(*folders: Path) -> None:
        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
        monkeypatch.setattr(sys, "path", [str(folder) for folder in folders])

    return restrict


def described(*folders: Path) -> list[str]:
    return [str(package) for package in providers.installed_packages([*map(str, folders)])]


def test_finds_what_importlib_metadata_finds() -> None:
    expected = {
        f"{found.name} {found.version}"
        for found in metadata.distributions()
        if found.name in providers.FLAVOURS
    }
    assert set(described(*map(Path, sys.path))) == expected


def test_reads_names_and_versions_of_any_spelling(tmp_path: Path) -> None:
    folder = install(
        tmp_path,
        "onnxruntime_gpu-1.31.1.dist-info",
        "onnxruntime_directml-1.24.4.dist-info",
        "onnxruntime-1.32.0.dev20260701-py3.11.egg-info",
        "onnxruntime_genai-0.9.0.dist-info",  # a module of its own
        "onnx-1.23.2.dist-info",
    )
    assert described(folder, folder, tmp_path / "missing") == [
        "onnxruntime 1.32.0.dev20260701",
        "onnxruntime-directml 1.24.4",
        "onnxruntime-gpu 1.31.1",
    ]


def test_one_package_is_what_it_takes(tmp_path: Path, only) -> None:
    only(install(tmp_path, "onnxruntime_gpu-1.31.1.dist-info"))
    assert str(providers.require_onnxruntime()) == "onnxruntime-gpu 1.31.1"


def test_none_says_how_to_install_one(tmp_path: Path, only) -> None:
    only(tmp_path)
    with pytest.raises(InstallationError, match=r"not installed: pip install 'gpt2onnx\[cpu\]' or"):
        providers.require_onnxruntime()


@pytest.mark.parametrize(
    ("names", "command"),
    [
        (
            ["onnxruntime-1.31.1", "onnxruntime_gpu-1.31.0"],
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'gpt2onnx[gpu]'",
        ),
        (
            ["onnxruntime-1.31.1", "onnxruntime_openvino-1.31.0"],
            "pip uninstall -y onnxruntime onnxruntime-openvino && pip install onnxruntime-openvino",
        ),
    ],
)
def test_two_packages_are_named_with_the_command_that_mends_it(
    tmp_path: Path, only, names: list[str], command: str
) -> None:
    only(install(tmp_path, *(f"{name}.dist-info" for name in names)))
    with pytest.raises(InstallationError, match="overwrite each other") as raised:
        providers.require_onnxruntime()
    assert str(raised.value).endswith(command)


def test_a_package_in_a_later_folder_is_no_conflict(tmp_path: Path, only) -> None:
    mine = install(tmp_path / "mine", "onnxruntime_gpu-1.31.1.dist-info")
    system = install(tmp_path / "system", "onnxruntime-1.31.1.dist-info")
    only(mine, system)
    assert str(providers.require_onnxruntime()) == "onnxruntime-gpu 1.31.1"


def test_what_uninstalling_one_of_two_leaves_is_recognised(tmp_path: Path, only) -> None:
    only(install(tmp_path, "onnxruntime-1.31.1.dist-info", module=False))
    with pytest.raises(InstallationError, match=r"files are gone.*--force-reinstall onnxruntime"):
        providers.require_onnxruntime()


def test_a_leftover_folder_is_no_installation(tmp_path: Path, only) -> None:
    only(install(tmp_path, module=False))
    with raises(InstallationError, name="onnxruntime"):
        providers.require_onnxruntime()


def test_a_build_that_no_package_lists_is_taken(tmp_path: Path, only) -> None:
    only(install(tmp_path))
    assert providers.require_onnxruntime() is None


def test_an_old_version_is_refused(tmp_path: Path, only) -> None:
    only(install(tmp_path, "onnxruntime-1.9.0.dist-info"))
    with pytest.raises(InstallationError, match=r"1\.9\.0 is too old, at least 1\.31"):
        providers.require_onnxruntime()


def test_looking_imports_nothing_slow() -> None:
    code = (
        "import sys, gpt2onnx.runtime.ort.installation as p; p.require_onnxruntime();"
        "assert not {'onnxruntime', 'importlib.metadata'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


class FakeLibraries:
    """Opens libraries as ctypes.CDLL does: a driver that answers so, and files that lack these."""

    def __init__(
        self, status: int = 0, version: int = 13000, missing: str = "", capability: int = 9
    ) -> None:
        self.status, self.version, self.missing = status, version, missing
        self.capability = capability

    def __call__(self, name: str, mode: int = ctypes.DEFAULT_MODE):
        if self.missing and self.missing in name:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        return SimpleNamespace(
            cuInit=lambda flags: self.status,
            cuGetErrorString=lambda status, text: setattr(text._obj, "value", b"no device"),
            cuDriverGetVersion=lambda version: setattr(version._obj, "value", self.version),
            cuDeviceGetAttribute=self.attribute,
        )

    def attribute(self, value: Any, asked: int, device: int) -> None:
        assert (asked, device) == (75, 0)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
        value._obj.value = self.capability


@pytest.mark.skipif(sys.platform != "linux", reason="libraries are looked into on Linux alone")
@pytest.mark.parametrize(
    ("libraries", "obstacle"),
    [
        (FakeLibraries(), None),
        (FakeLibraries(version=13020), None),
        (FakeLibraries(missing="libcuda.so.1"), "there is no NVIDIA driver (libcuda.so.1: cannot"),
        (FakeLibraries(status=100), "the NVIDIA driver offers no device: no device (100)"),
        (FakeLibraries(version=12080), "the NVIDIA driver runs CUDA up to 12.8 and this ONNX"),
        (FakeLibraries(missing="providers_cuda"), "a library is missing (/capi/libonnxruntime_pro"),
    ],
)
def test_what_keeps_cuda_from_running_is_named(
    libraries: FakeLibraries, obstacle: str | None
) -> None:
    found = providers.cuda_obstacle(Path("/capi"), "13.0", libraries)
    assert found == obstacle or (obstacle and found and found.startswith(obstacle))


@pytest.mark.parametrize(
    ("libraries", "before", "after"),
    [
        (FakeLibraries(), None, "0"),
        (FakeLibraries(), "1", "1"),  # the user's
        (FakeLibraries(missing="libcudnn"), None, None),
        (FakeLibraries(missing="libcuda."), None, None),
        (FakeLibraries(capability=8), None, None),
    ],
)
def test_cudnn_attends_on_a_hopper_that_has_it(
    libraries: FakeLibraries,
    before: str | None,
    after: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {providers.XQA: before} if before else {})
    providers.prefer_cudnn(libraries)
    assert os.environ.get(providers.XQA) == after
