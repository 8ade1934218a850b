from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gpt2onnx.export.cached import CachedExports
from gpt2onnx.runtime.ort import startup_cache as startup
from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(startup, "MIN_SIZE", 0)


def test_a_model_is_kept_listed_used_and_cleared(run: Run, folder: str, tmp_path: Path) -> None:
    call = ["generate", "a", "--model", folder, "--max-new-tokens", 3, "--stats"]
    first, second = run(*call), run(*call)
    assert first[1] == second[1]
    assert "start-up cache made" in first[2]
    assert "start-up cache used" in second[2]
    status, out, err = run("cache")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].startswith(f"folder   {tmp_path / 'cache'}: ")
    assert any(f"{folder} ({kind})" in out for kind in ("fp32", "fp32, kernels"))
    status, out, _ = run("cache", "--json")
    kinds = {json.loads(line)["kind"]: json.loads(line) for line in out.splitlines()}
    assert kinds.keys() == {"checked", "startup"}
    assert kinds["startup"]["size"] > 10_000
    status, out, _ = run("cache", "--clear")
    assert (status, out[:8]) == (0, "removed ")
    assert "start-up cache made" in run(*call)[2]


def test_whose_exports_they_are(
    run: Run, checkpoint: Path, wide_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder that was given by a relative path, too."""
    monkeypatch.chdir(checkpoint.parent)
    for source in (checkpoint.name, wide_checkpoint):
        CachedExports(source)("fp32", "cpu")
    lines = run("cache")[1].splitlines()
    named = {line.partition("  compare, ")[2] for line in lines if line.startswith("export")}
    assert named == {f"fp32-cpu of {each}" for each in (checkpoint, wide_checkpoint)}


def test_clearing_as_json(run: Run, folder: str, tmp_path: Path) -> None:
    run("generate", "a", "--model", folder, "--max-new-tokens", 1)
    status, out, _ = run("cache", "--clear", "--json")
    removed = json.loads(out)
    assert (status, removed["folder"]) == (0, str(tmp_path / "cache"))
    assert removed["removed"] > 10_000


def test_without(run: Run, folder: str) -> None:
    call = ["generate", "a", "--model", folder, "--max-new-tokens", 3, "--stats"]
    assert "start-up cache not used\n" in run(*call, "--no-startup-cache")[2]
    assert "startup " not in run("cache")[1].partition("\n")[2]


def test_a_size_that_is_none(run: Run, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2ONNX_STARTUP_CACHE_SIZE", "big")
    for call in (["generate", "a", "--model", folder], ["cache"]):
        status, out, err = run(*call)
        assert (status, out) == (2, "")
        assert err.startswith("gpt2onnx: error: GPT2ONNX_STARTUP_CACHE_SIZE='big': expected a size")


def test_what_cannot_be_removed(run: Run, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run("generate", "a", "--model", folder, "--max-new-tokens", 1)

    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", fail)
    status, out, err = run("cache", "--clear")
    assert (status, out) == (1, "")
    assert err.endswith("startup: can't be removed: Permission denied\n")
