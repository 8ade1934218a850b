"""compare on the runtimes themselves: each as installed, the bundled model's texts and logits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gpt2onnx
from gpt2onnx.compare.comparison import Comparison
from gpt2onnx.compare.models import Exported, Given, Models
from gpt2onnx.compare.record.answers import Answers
from gpt2onnx.compare.record.grid import Grid
from gpt2onnx.compare.record.runs import Missing, Run
from gpt2onnx.compare.runtimes.places import Installed
from gpt2onnx.compare.runtimes.start import Starter
from gpt2onnx.compare.runtimes.table import RUNTIMES
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.export.cached import CachedExports
from tests.chromium import CHROMIUM
from tests.compare.records import a_record, an_asked
from tests.runtimes.environments import FOLDER, node_modules, python_of

pytestmark = pytest.mark.slow
PROMPTS = ["def read(path):\n    ", 'class Stack:\n    """']


def installed(runtime: str) -> Path:
    """The folder that a runtime is installed under; without it the test is skipped."""
    starter = RUNTIMES[runtime].starter
    if starter == "page" and CHROMIUM is None:
        pytest.skip("Chromium isn't installed")
    if starter != "python":
        node_modules()
    elif runtime != "onnxruntime":
        python_of(runtime)
    return FOLDER


def compared(
    runtime: str, models: Models, *precisions: str, alone: str | None = None
) -> list[Answers]:
    """A runtime's answers; each has its times as well, of a row and of three.

    alone: a pattern of the reason why it takes no three.
    """
    places = Installed(installed(runtime))
    sizes = {"batch": (1, 3), "context": (16,), "new_tokens": 16, "threads": 1}
    grid = Grid(("cpu",), precisions, **sizes, runtimes={runtime: "cpu"})  # type: ignore[arg-type]
    record = a_record(asked=an_asked(grid=grid, reference=models.reference, prompts=PROMPTS))
    list(Comparison(grid, models, record, runtimes=Starter(places)).run())
    theirs = [each for each in record.answers if each.configuration.runtime]
    assert [each.reason for each in theirs] == [None] * len(precisions)
    runs = [run for run in record.runs if run.cell.configuration.runtime]
    for each, one, three in zip(theirs, runs[::2], runs[1::2], strict=True):
        assert isinstance(one, Run)
        assert one.program == each.program
        if alone is None:
            assert isinstance(three, Run)
        else:
            assert isinstance(three, Missing)
            assert re.search(alone, three.reason)
    return theirs


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "genai", "node", "web"])
def test_answers_hold_and_times_are_there(runtime: str) -> None:
    models = Exported("demo", "", CachedExports(CHECKPOINT))
    single, rounded = (each.agreement for each in compared(runtime, models, "fp32", "int8"))
    assert single
    assert rounded
    assert single.partings.verdict == "same"
    assert single.figures.max_logit_difference < 1e-3
    assert rounded.partings.verdict in ("same", "near-ties")
    assert rounded.figures.kl_mean < 0.01


def test_openvino_runs_the_fused_graph(tmp_path: Path) -> None:
    """A row alone, its past as long as it is; of several it gives the logits of fewer, or fails."""
    folder = gpt2onnx.export(CHECKPOINT, tmp_path / "m", precision="fp32", verify=False).folder
    refusal = r"logits of [0-2] rows: expected 3|Reshape|^wrong at batch 3"
    (found,) = compared("openvino", Given([folder]), "fp32", alone=refusal)
    assert found.program
    assert found.program.graph == "fused"
    assert found.agreement
    assert found.agreement.partings.verdict == "same"
    assert found.agreement.figures.max_logit_difference < 1e-3
