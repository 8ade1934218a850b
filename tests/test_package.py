"""What is published: a wheel and a source distribution, whole, and enough by themselves."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import gpt2onnx

ROOT = Path(__file__).parents[1]
# Packages that running a model must not need.
HEAVY = ("torch", "transformers", "optimum")


def call(*command: str | Path, cwd: Path = ROOT) -> str:
    """A command's output, without this checkout on its path. Fails with what it said."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ran = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both; the wheel is built of what the source distribution has."""
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", out)
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def source(dist: Path) -> set[str]:
    """The names in the source distribution, without its folder's."""
    (found,) = dist.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def test_an_index_takes_both(dist: Path) -> None:
    pytest.importorskip("twine")
    call(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir())


def test_the_metadata(metadata: Message) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (metadata["Name"], metadata["Version"]) == ("gpt2onnx", gpt2onnx.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload(decode=True) == (ROOT / "README.md").read_bytes()
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    needed = [each for each in metadata.get_all("Requires-Dist", []) if "extra ==" not in each]
    assert sorted(each.partition(">")[0] for each in needed) == ["numpy", "tokenizers"]


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for path in (ROOT / "gpt2onnx").rglob("*") if path.is_file()]
    assert names == {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}
    assert "gpt2onnx/py.typed" in names


def test_the_source_has_what_its_tests_need(source: set[str]) -> None:
    for name in ("tests/conftest.py", "scripts/test", "docs/index.md", "mkdocs.yml", "LICENSE"):
        assert name in source
    assert not [name for name in source if "__pycache__" in name or name.startswith(".venv")]


@pytest.mark.slow
def test_it_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed with the versions tested; from there it exports, writes, and is what was built."""
    python = tmp_path / "env" / "bin" / "python"
    call(sys.executable, "-m", "venv", tmp_path / "env")
    constraint = ROOT / "requirements-tested.txt"
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    call(python, *install, "--constraint", constraint, f"gpt2onnx[cpu,export] @ {wheel.as_uri()}")
    run = python.with_name("gpt2onnx")
    assert call(run, "--version", cwd=tmp_path).split()[-1] == gpt2onnx.__version__
    call(run, "export", "demo", "out", cwd=tmp_path)
    code = "import gpt2onnx; print(gpt2onnx.__file__); print(gpt2onnx.load('out').generate('def'))"
    where, written = call(python, "-c", code, cwd=tmp_path).split("\n", 1)
    assert Path(where).is_relative_to(tmp_path / "env")
    assert written.startswith("Generation(")
    for name in HEAVY:
        find = f"import importlib.util; print(importlib.util.find_spec({name!r}))"
        assert call(python, "-c", find, cwd=tmp_path) == "None\n"
