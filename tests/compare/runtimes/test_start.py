"""Jobs on runtimes: what they write, and why they can't. The others' are in tests/runtimes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx.compare.runtimes.job import Job, Text, UnavailableError, graph_of, short
from gpt2onnx.compare.runtimes.places import Installed
from gpt2onnx.compare.runtimes.start import require, start
from gpt2onnx.compare.runtimes.table import RUNTIMES
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.runtime.folder.model_folder import open_folder
from tests.raising import raises

IDS = [46, 77, 306, 1043, 266, 267, 760]
COUNT = 8


def job(runtime: str, folder: Path, *texts: Text) -> Job:
    graph, data = graph_of(open_folder(folder))
    names = {"runtime": runtime, "graph": graph, "data": data}
    return Job(**names, folder=str(folder), threads=1, texts=list(texts))


@pytest.fixture(scope="module", params=["fused", "masked", "portable"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / request.param
    return gpt2onnx.export(CHECKPOINT, out, graph=request.param, verify=False).folder


def test_onnxruntime_writes_gpt2onnxs_tokens_and_logits(folder: Path, tmp_path: Path) -> None:
    model = gpt2onnx.load(folder, provider="cpu", graph="onnx", startup_cache=False)
    expected = list(model.generate(IDS, max_new_tokens=COUNT).token_ids)
    given, kept = [5, 6, 7], tmp_path / "logits"
    made = start(
        job("onnxruntime", folder, Text([IDS], COUNT), Text([IDS], 4, given, str(kept))),
        Installed(),
    )
    free, forced = made.texts
    assert free.tokens == [expected]
    assert len(free.times) == COUNT
    logits = np.fromfile(kept, np.float32).reshape(4, -1)
    assert forced.tokens == [logits.argmax(-1).tolist()]
    # The row behind [*IDS, 5, 6, 7] is what a prompt of them has.
    (whole,) = start(job("onnxruntime", folder, Text([[*IDS, *given]], 1)), Installed()).texts
    assert forced.tokens[0][-1] == whole.tokens[0][0]


def test_rows_of_a_batch_are_what_they_are_alone(folder: Path) -> None:
    rows = [IDS, IDS[::-1], [7] * len(IDS)]
    alone, batch = [Text([ids], COUNT) for ids in rows], Text(rows, COUNT)
    *apart, together = start(job("onnxruntime", folder, *alone, batch, Text(rows[:1], 1))).texts[:4]
    assert together.tokens == [text.tokens[0] for text in apart]


def test_the_standards_evaluator_writes_them_too(tmp_path: Path) -> None:
    folder = gpt2onnx.export(CHECKPOINT, tmp_path / "m", graph="portable", verify=False).folder
    model = gpt2onnx.load(folder, startup_cache=False)
    # Whose largest logits lead by more than processors round apart.
    ids = 5 * [7]
    expected = list(model.generate(ids, max_new_tokens=3).token_ids)
    (made,) = start(job("reference", folder, Text([ids], 3)), Installed()).texts
    assert made.tokens == [expected]


def test_a_graph_that_a_runtime_cannot_run_gives_its_reason(tmp_path: Path) -> None:
    folder = gpt2onnx.export(CHECKPOINT, tmp_path / "m", verify=False).folder
    with pytest.raises(UnavailableError, match=r"com\.microsoft|GroupQueryAttention"):
        start(job("reference", folder, Text([IDS], 1)), Installed())


@pytest.mark.parametrize("runtime", ["tract", "node", "web"])
def test_what_is_not_installed_says_how_it_is(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = Job(
        runtime=runtime, folder="m", graph="g", data=None, threads=1, texts=[Text([IDS], 1)]
    )
    own = tmp_path / runtime
    told = f"^{runtime} isn't installed: (python -m venv {own} && {own}/bin/pip|npm) install "
    with pytest.raises(UnavailableError, match=told):
        start(asked, Installed(tmp_path))
    with pytest.raises(UnavailableError, match=f"^{runtime} isn't installed: (pip|npm) install "):
        start(asked, Installed())
    with raises(UnavailableError, name=runtime):
        require(RUNTIMES[runtime], Installed(tmp_path))


def test_an_environment_of_the_runtimes_name_comes_first(tmp_path: Path) -> None:
    python = tmp_path / "openvino" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert Installed(tmp_path).python(RUNTIMES["openvino"]) == python
    assert Installed(tmp_path).python(RUNTIMES["onnxruntime"]) == Path(sys.executable)


def test_a_process_that_dies_is_a_reason(tmp_path: Path) -> None:
    python = tmp_path / "openvino" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 'no such thing' >&2\nexit 3\n")
    python.chmod(0o755)
    names = {"runtime": "openvino", "folder": "m", "graph": "g", "data": None}
    with pytest.raises(UnavailableError, match=r"^no such thing$"):
        start(Job(**names, threads=1, texts=[Text([IDS], 1)]), Installed(tmp_path))


def test_reasons_are_a_line_without_a_stack() -> None:
    said = "Building node x\n\nCaused by:\n  no such thing\n\nStack backtrace:\n 0: main"
    assert short(said) == "Building node x Caused by: no such thing"


def test_a_job_says_how_many_tokens_its_longest_text_reads() -> None:
    """A model of six positions holds all of these: nothing reads the last token of a text."""
    names = {"runtime": "node", "folder": "m", "graph": "g", "data": None}
    free, rows = Text([[1, 2]], 5), Text([[1, 2, 3]] * 2, 4)
    along = Text([[1]], 6, given=[2, 3, 4, 5, 6])  # a text of six tokens, with logits after each
    for texts in ([free], [rows], [along], [free, rows, along, Text([[1]], 2)]):
        assert json.loads(Job(**names, threads=1, texts=texts).to_json())["capacity"] == 6
