"""compare on the runtimes themselves: each as installed, the bundled model's texts and logits."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from gpt2onnx.compare.comparison import Comparison
from gpt2onnx.compare.models import Exported
from gpt2onnx.compare.record.grid import REFERENCE, Grid
from gpt2onnx.compare.record.runs import Run
from gpt2onnx.compare.runtimes.places import Installed
from gpt2onnx.compare.runtimes.start import start
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


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "genai", "node", "web"])
def test_answers_hold_and_times_are_there(runtime: str) -> None:
    places = Installed(installed(runtime))
    sizes = {"batch": (1,), "context": (16,), "new_tokens": 16, "threads": 1}
    grid = Grid(("cpu",), ("fp32", "int8"), **sizes, runtimes={runtime: "cpu"})  # type: ignore[arg-type]
    record = a_record(asked=an_asked(grid=grid, reference=REFERENCE, prompts=PROMPTS))
    models = Exported("demo", "", CachedExports(CHECKPOINT))
    list(Comparison(grid, models, record, write=partial(start, places=places)).run())
    single, rounded = record.answers[2:]
    assert (single.reason, rounded.reason) == (None, None)
    assert single.agreement
    assert rounded.agreement
    assert single.agreement.partings.verdict == "same"
    assert single.agreement.figures.max_logit_difference < 1e-3
    assert rounded.agreement.partings.verdict in ("same", "near-ties")
    assert rounded.agreement.figures.kl_mean < 0.01
    assert all(isinstance(run, Run) and run.program for run in record.runs[2:])
