from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2onnx.cli.commands.export import parser
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.export.checkpoint.adapter import open_adapter
from gpt2onnx.export.graph.kinds import GRAPHS
from gpt2onnx.export.graph.kv_cache import KV_CACHES
from gpt2onnx.export.quantization.table import DEVICES, PRECISIONS
from gpt2onnx.runtime.folder.model_folder import open_folder
from tests.adapters import make_adapter
from tests.cli.conftest import Run


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What the command asks of the library, in place of doing it."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def export(*args: Any, **kwargs: Any) -> str:
        calls.append((args, kwargs))
        return "made"

    monkeypatch.setattr("gpt2onnx.export.export", export)
    return calls


def test_a_model_folder_is_made(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    options = ("--precision", "int4", "--no-verify")
    status, shown, err = run("export", checkpoint, out, *options)
    assert (status, err) == (0, "")
    assert shown.startswith(f"{out}: int4, fused graph, ")
    assert shown.endswith("not verified\n")
    assert json.loads((out / "manifest.json").read_text())["precision"] == "int4"
    assert run("generate", "x", "--model", out, "--max-new-tokens", 1)[0] == 0


def test_options_reach_the_library(run: Run, calls: list[Any]) -> None:
    assert run("export", "a/b", "out") == (0, "made\n", "")
    run(
        *(
            "export",
            "a/b",
            "out",
            "--precision",
            "fp16",
            "--graph",
            "portable",
            "--force",
            "--strict",
        ),
        *("--device", "cuda", "--revision", "main", "--verify", "--with-hidden-states"),
        *("--with-attention-bias", "--kv-cache", "int8", "--calibration", "FILE"),
        *("--adapter", "a", "--adapter", "b"),
    )
    defaults, given = calls
    assert defaults == (
        ("a/b", "out"),
        {
            "precision": "int8",
            "graph": None,
            "runtime": "onnxruntime",
            "device": "cpu",
            "revision": None,
            "adapter": [],
            "with_hidden_states": False,
            "with_attention_bias": False,
            "kv_cache": "auto",
            "calibration": None,
            "verify": None,
            "force": False,
            "strict": False,
            "progress": False,
        },
    )
    assert given == (
        ("a/b", "out"),
        {
            "precision": "fp16",
            "graph": "portable",
            "runtime": "onnxruntime",
            "device": "cuda",
            "revision": "main",
            "adapter": ["a", "b"],
            "with_hidden_states": True,
            "with_attention_bias": True,
            "kv_cache": "int8",
            "calibration": "FILE",
            "verify": True,
            "force": True,
            "strict": True,
            "progress": False,
        },
    )


def test_the_bar_is_for_terminals(
    run: Run, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True, closed=False))
    run("export", "a/b", "out", "--no-verify")
    assert calls[0][1]["progress"] is True
    assert calls[0][1]["verify"] is False


def test_demo_is_the_bundled_checkpoint(run: Run, calls: list[Any]) -> None:
    run("export", "demo", "out")
    run("export", "./demo", "out")
    assert [args[0] for args, _ in calls] == [CHECKPOINT, "./demo"]


def test_the_help_names_every_choice() -> None:
    text = parser().format_help()
    for name in (*PRECISIONS, *GRAPHS, *DEVICES, *KV_CACHES):
        assert name in text


def test_bundled_models_are_exported_by_name(run: Run, tmp_path: Path) -> None:
    for name, width in (("demo", 256), ("demo-draft", 128)):
        status, _, err = run("export", name, tmp_path / name, "--precision", "fp32", "--no-verify")
        assert (status, err) == (0, "")
        assert open_folder(tmp_path / name).config["n_embd"] == width


def test_each_runtime_has_a_folder(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    chosen = ("--for", "optimum", "--for", "transformers.js", "--for", "genai")
    status, shown, err = run("export", checkpoint, tmp_path / "out", *chosen, "--no-verify")
    assert (status, err, shown.count("\n")) == (0, "", 3)
    for name, others in (
        ("optimum", ", openvino, optimum"),
        ("transformers.js", ", transformers.js"),
        ("genai", ", genai, optimum"),
    ):
        assert (
            f"runtimes        onnxruntime{others}\n" in run("inspect", tmp_path / "out" / name)[1]
        )


def test_adapters_are_told_by_inspect(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    folders = [make_adapter(tmp_path / name, seed=seed) for seed, name in enumerate("ab")]
    chosen = [part for folder in folders for part in ("--adapter", folder)]
    out = tmp_path / "out"
    runtimes = ("--for", "genai", "--for", "onnxruntime")
    status, shown, err = run("export", checkpoint, out, *chosen, *runtimes, "--no-verify")
    assert (status, err, shown.count("\n")) == (0, "", 2)
    told = "; ".join(f"name {folder}, sha256 {open_adapter(folder).sha256}" for folder in folders)
    for name in ("genai", "onnxruntime"):
        assert f"adapters        {told}\n" in run("inspect", out / name)[1]


def test_an_adapter_as_the_source(run: Run, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapter")
    status, _, err = run("export", folder, tmp_path / "model")
    assert status == 2
    assert err.endswith(f"export that one, with --adapter '{folder}'\n")


def test_force_replaces_a_model_folder(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    given = ("export", checkpoint, tmp_path / "model", "--no-verify")
    assert run(*given)[0] == 0
    status, _, err = run(*given)
    assert status == 2
    assert "exists already" in err
    assert "--force" in err
    assert run(*given, "--force")[0] == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--precision", "int9"), "--precision 'int9': "),
        (("--graph", "square"), "--graph 'square': "),
        (("--for", "tvm"), "--for 'tvm': "),
        (("--for", "genai", "--for", "tvm"), "--for 'tvm': "),
        (("--device", "tpu"), "--device 'tpu': "),
        (("--verify=yes",), "argument --verify/--no-verify: ignored explicit argument 'yes'"),
    ],
)
def test_mistakes(
    run: Run, checkpoint: Path, tmp_path: Path, given: tuple[str, ...], message: str
) -> None:
    status, out, err = run("export", checkpoint, tmp_path / "model", *given)
    assert (status, out) == (2, "")
    assert err.startswith(f"gpt2onnx: error: {message}")
    assert err.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_a_source_that_is_not_there(run: Run, tmp_path: Path) -> None:
    status, _, err = run("export", tmp_path / "none", tmp_path / "model")
    assert status == 2
    assert err.count("\n") == 1


def test_without_the_packages_of_the_export(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gpt2onnx.export")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    status, _, err = run("export", "source", "out")
    assert status == 2
    assert err.startswith("gpt2onnx: error: exporting needs onnx, which isn't installed: pip")
    assert err.count("\n") == 1
