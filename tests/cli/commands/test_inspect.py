from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import gpt2onnx
from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("todays_graph")
# 2 layers, keys and values of 4 heads of 8 numbers in fp32.
CACHE = 2 * 2 * 4 * 8 * 4


def test_json(run: Run, folder: str) -> None:
    status, out, err = run("inspect", folder, "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["folder"] == folder
    assert found["checked"] is False
    assert found["manifest"] == json.loads(Path(folder, "manifest.json").read_text())
    assert found["config"] == json.loads(Path(folder, "config.json").read_text())
    assert found["kv_cache"] == {"bytes_per_token": CACHE, "bytes_at_full_length": 64 * CACHE}
    assert found["inputs"]["seqlens_k"] == {"dtype": "int32", "shape": ["batch"]}
    assert found["inputs"]["past_key_values.1.value"]["shape"][1] == 4
    assert found["outputs"]["logits"]["shape"][-1] == 257
    reason = "gpt2onnx-kernels is switched off by GPT2ONNX_KERNELS=off"
    assert found["kernels"] == {
        "graph": "model.kernels.onnx",
        "name": None,
        "reason": reason,
        "kv_cache": found["kv_cache"],
    }
    assert found["files"] == {p.name: p.stat().st_size for p in Path(folder).iterdir()}


def test_text(run: Run, folder: str) -> None:
    status, out, err = run("inspect", folder)
    about, inputs, outputs, files = out.split("\n\n")
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in about.splitlines()}
    assert (status, err) == (0, "")
    assert lines["folder"] == folder
    assert lines["precision"] == "fp32"
    assert lines["verification"] == "-"
    assert "n_layer 2, n_head 4, n_embd 32, n_positions 64, vocab_size 257" in lines["model"]
    assert lines["kv"] == f"cache {CACHE} bytes a token, 0.0 MB at full length"
    assert "checked" not in lines
    assert lines["kernels"].startswith("model.kernels.onnx, not here: gpt2onnx-kernels is ")
    assert "past_key_values.N.key    float32 [batch, 4, capacity, 8], 2 layers" in inputs
    assert inputs.count("past_key_values") == 2
    assert "logits           float32 [count, 257]" in outputs
    size = Path(folder, "model.onnx.data").stat().st_size
    assert f"model.onnx.data         {size:,} bytes" in files


def test_a_cache_in_half_precision_is_the_kernels_graphs(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    folder = gpt2onnx.export(checkpoint, tmp_path / "model", precision="int8", verify=False).folder
    found = json.loads(run("inspect", folder, "--json")[1])
    assert found["manifest"]["kv_cache"] == "float16"
    assert found["inputs"]["past_key_values.1.value"]["dtype"] == "float32"
    assert found["kv_cache"]["bytes_per_token"] == CACHE
    assert found["kernels"]["kv_cache"]["bytes_per_token"] == CACHE // 2
    assert f"; kv cache: {CACHE // 2} bytes a token, 0.0 MB at" in run("inspect", folder)[1]


def test_what_verification_measured(run: Run, folder: str, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["verification"] = {"positions": 64, "mean_kl": 1.23456e-7}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "verification    positions 64, mean_kl 1.23e-07\n" in run("inspect", copy)[1]


def test_edited_settings(run: Run, folder: str, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "generation_config.json").write_text('{"max_new_tokens": 3}')
    status, out, err = run("inspect", copy, "--check")
    assert (status, err) == (0, "")
    assert (
        "checked         every file but generation_config.json has the manifest's sha256\n" in out
    )
    assert "edited          generation_config.json, since the export\n" in out
    assert json.loads(run("inspect", copy, "--json")[1])["edited"] == ["generation_config.json"]


def test_check(run: Run, folder: str, tmp_path: Path) -> None:
    assert (
        "checked         every file has the manifest's sha256\n"
        in run("inspect", folder, "--check")[1]
    )
    assert json.loads(run("inspect", folder, "--check", "--json")[1])["checked"] is True
    copy = shutil.copytree(folder, tmp_path / "model")
    data = bytearray((copy / "model.onnx.data").read_bytes())
    data[100] ^= 1
    (copy / "model.onnx.data").write_bytes(data)
    assert run("inspect", copy)[0] == 0
    status, out, err = run("inspect", copy, "--check")
    assert (status, out) == (2, "")
    assert f"{copy / 'model.onnx.data'}: sha256 is" in err
    assert err.count("\n") == 1


def test_another_exporters_folder(run: Run, folder: str, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "manifest.json").unlink()
    status, out, _ = run("inspect", copy)
    assert status == 0
    assert "manifest  none: another exporter's folder\n" in out
    assert json.loads(run("inspect", copy, "--json")[1])["manifest"] is None
    status, _, err = run("inspect", copy, "--check")
    assert status == 2
    assert "no manifest.json, so there are no checksums to check" in err


def test_demo_is_the_bundled_model(run: Run, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt2onnx.demo.folder", lambda *which, **made: Path(folder))
    assert run("inspect", "demo") == run("inspect", folder)


def test_no_folder(run: Run) -> None:
    status, out, err = run("inspect", "/no/such")
    assert (status, out) == (2, "")
    assert err.startswith("gpt2onnx: error: /no/such: doesn't exist, expected a model folder")
