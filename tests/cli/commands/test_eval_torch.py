"""Perplexity, KL and agreement beside PyTorch."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gpt2onnx
from tests.cli.commands.test_eval import AGAINST, TEXT
from tests.cli.conftest import Run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_json_is_what_transformers_says(run: Run, reference: Any, folder: str, text: Path) -> None:
    status, out, err = run("eval", folder, "--text", text, "--json")
    found = json.loads(out)
    tokens = torch.from_numpy(gpt2onnx.load(folder).to_score(TEXT))[None]
    with torch.inference_mode():
        loss = reference(tokens, labels=tokens).loss.item()
    assert (status, err) == (0, "")
    assert list(found) == FIELDS
    assert (found["model"], found["precision"], found["tokens"]) == (folder, "fp32", 13)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    assert found["bits_per_byte"] == pytest.approx(loss / math.log(2), rel=1e-4)


FIELDS = ["model", "precision", "tokens", "perplexity", "bits_per_byte"]


def test_several_models_against_a_checkpoint(
    run: Run, models: Callable[[str], Path], checkpoint: Path, text: Path
) -> None:
    folders = [str(models("fp32")), str(models("int4"))]
    options = ("--text", text, "--reference", checkpoint, "--threads", 1)
    _, out, _ = run("eval", *folders, *options, "--json")
    fp32, int4 = (json.loads(line) for line in out.splitlines())
    assert list(fp32) == [*FIELDS, "reference", "reference_perplexity", *AGAINST]
    assert [fp32["model"], int4["model"]] == folders
    assert (fp32["precision"], int4["precision"]) == ("fp32", "int4")
    assert 0 <= fp32["kl_mean"] < 1e-8 < 1e-6 < int4["kl_mean"] <= int4["kl_p99"]
    assert fp32["top1_agreement"] == 1
    assert fp32["reference_perplexity"] == int4["reference_perplexity"]

    status, table, err = run("eval", *folders, *options)
    header, *rows, last = table.splitlines()
    assert (status, err) == (0, "")
    assert header.split()[:4] == ["model", "precision", "tokens", "perplexity"]
    for row, found in zip(rows, (fp32, int4), strict=True):
        cells = row.split()
        assert cells[:4] == [
            found["model"],
            found["precision"],
            str(found["tokens"]),
            f"{found['perplexity']:.4f}",
        ]
        assert float(cells[5]) == pytest.approx(found["kl_mean"], rel=1e-2)
        assert cells[7] == f"{found['top1_agreement']:.2%}"
    assert last == f"reference {checkpoint}: perplexity {fp32['reference_perplexity']:.4f}"


def test_demo_is_the_bundled_model(run: Run, text: Path) -> None:
    _, out, _ = run("eval", "demo", "--text", text, "--reference", "demo", "--json")
    found = json.loads(out)
    assert (found["model"], found["precision"], found["reference"]) == ("demo", "int8", "demo")
    assert 0 < found["kl_mean"] < 0.1


def test_without_torch(
    run: Run, folder: str, checkpoint: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else find_spec(name)
    )
    status, _, err = run("eval", folder, "--text", text, "--reference", checkpoint)
    assert status == 2
    assert (
        "as a reference needs torch: pip install 'gpt2onnx[export,verify]', or give a model" in err
    )


def test_a_reference_of_another_vocabulary(run: Run, folder: str, text: Path) -> None:
    status, out, err = run("eval", folder, "--text", text, "--reference", "demo")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "expected the same vocabulary of both, found 257 and 4096" in err
