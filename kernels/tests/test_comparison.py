"""gpt2onnx compare measures a folder on both of its graphs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import gpt2onnx
from gpt2onnx.cli import main
from gpt2onnx.cli.commands import compare
from gpt2onnx.compare.measure.jobs import answer
from gpt2onnx.compare.record.record import read
from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.ort.kernels import OFF, VARIABLE
from tests.checkpoints import make_checkpoint

SIZES = ("--batch", "1", "--context", "8", "--new-tokens", "6", "--threads", "1")


def test_a_row_of_each_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "Comparison", partial(compare.Comparison, do=answer))
    checkpoint, (out, prompts) = tmp_path / "checkpoint", (tmp_path / "out", tmp_path / "prompts")
    make_checkpoint(checkpoint)
    folder = gpt2onnx.export(checkpoint, tmp_path / "m", precision="fp32", verify=False).folder
    prompts.write_text("hello there\none two three\n")
    command = ["compare", str(folder), "--providers", "cpu", *SIZES, "--prompts", str(prompts)]
    assert main([*command, "--out", str(out)]) == 0
    told = json.loads((out / "compare.json").read_text())
    record = read(told, "it", ParameterError)
    assert record.asked.grid.kernels == ("fp32",)
    today, ours = record.answers
    assert [str(each.configuration) for each in (today, ours)] == ["cpu fp32", "cpu fp32 kernels"]
    assert ours.agreement.partings.verdict == "same"
    assert 0 < ours.agreement.figures.max_logit_difference < 1e-3
    assert "GroupQueryAttention" in today.placement.nodes["cpu"]
    assert "GroupQueryAttention" not in ours.placement.nodes["cpu"]
    assert len(record.measured) == 2
    assert [row.get("graph") for row in told["runs"]] == [None, "kernels"]
    monkeypatch.setenv(VARIABLE, OFF)
    assert main([*command, "--out", str(tmp_path / "off")]) == 0
    told = json.loads((tmp_path / "off" / "compare.json").read_text())
    assert "kernels" not in told["grid"]
    assert len(told["runs"]) == 1
