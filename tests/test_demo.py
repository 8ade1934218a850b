"""The bundled model: exported on its first use, by one process or several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx import demo, models
from gpt2onnx.errors import OutputExistsError, StorageError
from gpt2onnx.runtime.folder.model_folder import open_folder
from tests.checkpoints import make_checkpoint
from tests.raising import raises


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small checkpoint in the bundled model's place, and an empty cache."""
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(demo.BUNDLED, "demo", make_checkpoint(tmp_path / "checkpoint"))
    monkeypatch.setitem(demo.BUNDLED, "demo-draft", make_checkpoint(tmp_path / "draft", n_layer=1))
    return tmp_path


def test_the_demo_is_exported_on_first_use(bundled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpt2onnx.load().generate("a", max_new_tokens=2).token_ids
    monkeypatch.setattr("gpt2onnx.export.cached.export", None)  # it isn't exported again
    assert demo.exported() == gpt2onnx.load("demo").folder.path
    assert demo.exported().is_relative_to(bundled / "cache")


def test_the_draft_is_exported_on_first_use(bundled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = gpt2onnx.load("demo-draft")
    monkeypatch.setattr("gpt2onnx.export.cached.export", None)  # it isn't exported again
    assert demo.exported("demo-draft") == draft.folder.path == demo.folder("demo-draft")
    assert draft.folder.path.is_relative_to(bundled / "cache")
    assert draft.folder.config["n_layer"] == 1


def test_the_draft_drafts_by_its_name(bundled: Path) -> None:
    drafted = gpt2onnx.load().generate("a", max_new_tokens=9, draft="demo-draft")
    assert drafted.speculation is not None


def test_another_demo_is_exported_anew(bundled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = demo.exported()
    monkeypatch.setitem(demo.BUNDLED, "demo", make_checkpoint(bundled / "other", n_layer=1))
    assert demo.exported() != first
    assert demo.exported(precision="fp32") != demo.exported(precision="int8")


def test_it_is_made_for_the_provider_that_is_named(bundled: Path) -> None:
    assert models.resolve("demo", "CUDAExecutionProvider") == demo.folder(device="cuda")
    assert open_folder(models.resolve("demo-draft", "cuda")).manifest["device"] == "cuda"
    for provider in ("auto", "cpu"):
        assert models.resolve("demo", provider) == demo.folder()
    assert open_folder(demo.folder()).manifest["device"] == "cpu"


def test_another_process_was_faster(bundled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*args: Any, **kwargs: Any) -> None:
        raise OutputExistsError("somebody else has just written it")

    monkeypatch.setattr("gpt2onnx.export.cached.export", late)
    assert demo.exported().name == "int8-cpu"


@pytest.mark.parametrize("cache", ["file", "x" * 300])
def test_a_cache_that_cannot_be_written(
    cache: str, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundled / "file").touch()
    monkeypatch.setenv("GPT2ONNX_CACHE", str(bundled / cache))
    with raises(StorageError, path=bundled / cache):
        demo.exported()


def test_two_processes_at_once(bundled: Path) -> None:
    code = (
        "import sys, pathlib, gpt2onnx.demo as demo; "
        "demo.BUNDLED['demo'] = pathlib.Path(sys.argv[1]); print(demo.exported())"
    )
    command = [sys.executable, "-c", code, str(demo.BUNDLED["demo"])]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs == [f"{demo.exported()}\n"] * 2
    assert [path.name for path in demo.exported().parent.iterdir()] == ["int8-cpu"]
    open_folder(demo.exported()).check_hashes()


def test_the_demo_says_what_it_ran_on() -> None:
    script = Path(__file__).parents[1] / "scripts" / "demo.py"
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert f"\nRan on {gpt2onnx.load(provider='cpu').session.choice}.\n" in run.stdout
