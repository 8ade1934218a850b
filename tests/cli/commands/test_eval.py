from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gpt2onnx
from gpt2onnx.cli.output import bar
from tests.cli.conftest import Run

TEXT = "some text, é"
FIELDS = ["model", "precision", "tokens", "perplexity", "bits_per_byte"]
AGAINST = ["kl_mean", "kl_p99", "top1_agreement", "max_logit_difference"]


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


def test_a_reference_folder(run: Run, folder: str, text: Path) -> None:
    _, out, _ = run("eval", folder, "--text", text, "--reference", folder, "--json")
    assert [json.loads(out)[name] for name in AGAINST] == [0, 0, 1, 0]


def test_standard_input_and_options(
    run: Run, folder: str, text: Path, standard_input: Callable[[bytes], None]
) -> None:
    standard_input(TEXT.encode() * 20)
    options = ("--stride", 9, "--max-tokens", 100, "--no-bos")
    status, out, _ = run("eval", folder, "--text", "-", "--json", *options)
    assert (status, json.loads(out)["tokens"]) == (0, 100)


def test_demo_is_the_bundled_model(run: Run, text: Path) -> None:
    _, out, _ = run("eval", "demo", "--text", text, "--reference", "demo", "--json")
    found = json.loads(out)
    assert (found["model"], found["precision"], found["reference"]) == ("demo", "int8", "demo")
    assert 0 < found["kl_mean"] < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--stride", 0), "--stride 0: expected 1 to 64, the model's positions"),
        (("--max-tokens", -1), "--max-tokens -1: expected an integer of at least 1"),
        (("--reference", "demo"), "expected the same vocabulary of both, found 257 and 4096"),
    ],
)
def test_mistakes(
    run: Run, folder: str, text: Path, options: tuple[Any, ...], message: str
) -> None:
    status, out, err = run("eval", folder, "--text", text, *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the text is empty"),
        (b"ab\xff", "expected UTF-8, found something else: byte 2 is 0xff"),
    ],
)
def test_texts_that_are_none(
    run: Run, folder: str, tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "text"
    file.write_bytes(content)
    status, _, err = run("eval", folder, "--text", file)
    assert status == 2
    assert message in err
    assert "No such file" in run("eval", folder, "--text", tmp_path / "nothing")[2]


def test_a_missing_folder_is_found_before_anything_runs(run: Run, folder: str, text: Path) -> None:
    status, out, err = run("eval", folder, "nothing", "--text", text, "--json")
    assert (status, out) == (2, "")
    assert "nothing: doesn't exist" in err


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


def test_a_bar_on_a_terminal(
    run: Run, folder: str, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bar, "DELAY", 0)
    monkeypatch.setattr(bar, "PAUSE", 0)
    assert run("eval", folder, "--text", text)[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    err = run("eval", folder, "--text", text)[2]
    *_, state, blank, end = err.split("\r")
    assert state.startswith(f"{folder} [{'#' * bar.WIDTH}] 13 of 13")
    assert (blank, end) == (" " * len(state), "")
