"""Other runtimes in a comparison: one that is right, one that is not there, ones that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2onnx.compare.comparison import Comparison
from gpt2onnx.compare.measure.job import Job, Reason
from gpt2onnx.compare.measure.jobs import answer
from gpt2onnx.compare.models import Exported, Given
from gpt2onnx.compare.record.answers import Program
from gpt2onnx.compare.record.grid import Configuration, Grid
from gpt2onnx.compare.record.record import Record, read
from gpt2onnx.compare.record.runs import Missing, Run
from gpt2onnx.compare.record.schema import to_json
from gpt2onnx.compare.report.markdown import markdown
from gpt2onnx.compare.report.page import render
from gpt2onnx.compare.report.tables import tables
from gpt2onnx.compare.runtimes.job import Text, Wrote
from gpt2onnx.errors import ParameterError
from gpt2onnx.export.cached import CachedExports
from gpt2onnx.runtime.folder.model_folder import open_folder
from tests.compare.fake_runtimes import MISSING, VERSION, FakeRuntimes
from tests.compare.records import a_record, an_asked
from tests.raising import raises

PROMPTS = ["hello there", "one two three"]
NEW = 6


def grid(*runtimes: str, batch: tuple[int, ...] = (1, 2)) -> Grid:
    named = dict.fromkeys(runtimes, "cpu")
    sizes = {"batch": batch, "context": (8,), "new_tokens": NEW, "threads": 1}
    return Grid(("cpu",), ("fp32",), **sizes, runtimes=named)  # type: ignore[arg-type]


def compared(
    asked: Grid,
    folder: Path,
    runtimes: FakeRuntimes,
    before: Record | None = None,
    do: Callable[[Job], Any] = answer,
) -> Record:
    models = Given([folder])
    record = a_record(asked=an_asked(grid=asked, reference=models.reference, prompts=PROMPTS))
    if before is not None:
        record.resume(read(json.loads(json.dumps(to_json(before))), "it", ParameterError))
    comparing = Comparison(asked, models, record, do, runtimes)
    assert len(list(comparing.run())) == comparing.steps
    return record


def test_one_that_is_right(models: Callable[[str], Path]) -> None:
    folder, write = models("fp32"), FakeRuntimes()
    record = compared(grid("node"), folder, write)
    ours, theirs = record.answers
    assert theirs.configuration == Configuration("cpu", "fp32", "node")
    assert (theirs.program, theirs.placement) == (Program(VERSION, "fused"), None)
    assert theirs.agreement == ours.agreement  # all logits, and all texts
    assert [(str(run.cell.configuration), run.cell.batch) for run in record.runs] == [
        *(("cpu fp32", 1), ("cpu fp32", 2), ("node fp32", 1), ("node fp32", 2)),
    ]
    run, both = record.runs[2:]
    assert isinstance(run, Run)
    assert theirs.agreement
    assert (run.program, run.placement) == (theirs.program, None)
    assert run.agreement == theirs.agreement.summary
    speed = run.speed
    assert (speed.load_s, speed.first_token_s) == (0.5, 4e-3)
    assert speed.step_ms.median == pytest.approx(1)
    assert speed.tokens_per_s == pytest.approx(1000)
    assert speed.memory.resident_bytes == 1_000_000
    # Answers and speed are jobs of their own, and what is timed was done before.
    answers, timed, rows = write.asked
    assert len(answers.texts) == 2 * len(PROMPTS)
    assert timed.texts[0] == timed.texts[1]
    assert (np.shape(timed.texts[0].ids), timed.texts[0].count) == ((1, 8), NEW)
    # A step of two rows writes two tokens; the last row is written alone as well.
    assert isinstance(both, Run)
    assert both.speed.tokens_per_s == pytest.approx(2000)
    assert [np.shape(text.ids) for text in rows.texts] == [(2, 8), (2, 8), (1, 8)]
    assert rows.texts[2].ids == rows.texts[0].ids[1:]
    assert {(job.runtime, job.graph, job.threads) for job in write.asked} == {
        ("node", "model.onnx", 1)
    }


def test_one_that_is_not_installed_is_a_row_that_says_so(models: Callable[[str], Path]) -> None:
    write = FakeRuntimes("openvino")
    record = compared(grid("openvino", "node"), models("fp32"), write)
    missing, never, *there = record.runs[2:]
    assert isinstance(missing, Missing)
    assert (missing.reason, record.answers[1].reason) == (MISSING, MISSING)
    assert to_json(missing)["runtime"] == "openvino"
    assert isinstance(never, Missing)
    assert [run.status for run in there] == ["ok", "ok"]
    # Installed since, it is tried again, and it alone.
    later, asked = FakeRuntimes(), []

    def asking(job: Job) -> Any:
        asked.append(job.kind)
        return answer(job)

    after = compared(grid("openvino", "node"), models("fp32"), later, record, asking)
    assert asked == ["reference"]
    assert [job.runtime for job in later.asked] == ["openvino"] * 3
    assert [run.status for run in after.runs] == ["ok"] * 6


def test_resuming_goes_on_with_all_that_went_well(models: Callable[[str], Path]) -> None:
    before, nobody = compared(grid("node"), models("fp32"), FakeRuntimes()), FakeRuntimes("node")
    after = compared(grid("node"), models("fp32"), nobody, before, pytest.fail)
    assert after == before
    assert nobody.asked == []
    with raises(ParameterError, name="grid"):
        compared(grid("web"), models("fp32"), nobody, before, pytest.fail)


class Shuffled(FakeRuntimes):
    def logits(self, right: np.ndarray) -> np.ndarray:
        return np.roll(right, 1, axis=-1)

    def wrote(self, model: Any, text: Text) -> Wrote:
        made = super().wrote(model, text)
        return Wrote([[token + 1 for token in row] for row in made.tokens], made.times)


class NotANumber(FakeRuntimes):
    def logits(self, right: np.ndarray) -> np.ndarray:
        return np.full_like(right, np.nan)


class Short(FakeRuntimes):
    def logits(self, right: np.ndarray) -> np.ndarray:
        return right[:-1]


class Ended(FakeRuntimes):
    def wrote(self, model: Any, text: Text) -> Wrote:
        made = super().wrote(model, text)
        return Wrote([row[:-1] for row in made.tokens], made.times)


class Silent(FakeRuntimes):
    def wrote(self, model: Any, text: Text) -> Wrote:
        made = super().wrote(model, text)
        if text.logits:
            Path(text.logits).unlink()
        return made


def test_wrong_answers_are_caught(models: Callable[[str], Path]) -> None:
    agreement = compared(grid("node"), models("fp32"), Shuffled()).answers[1].agreement
    assert agreement
    assert agreement.figures.top1_agreement < 0.5
    assert agreement.partings.texts_parted == len(PROMPTS)
    assert agreement.partings.first_parting == 0


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (NotANumber(), "node gives logits that are no numbers"),
        (Short(), "logits along a text: expected "),
        (Silent(), "it kept no logits along a text"),
        (Ended(), f"it wrote {NEW - 1} tokens: expected {NEW}"),
    ],
)
def test_answers_that_cannot_be_compared_have_no_times(
    write: FakeRuntimes, reason: str, models: Callable[[str], Path]
) -> None:
    record = compared(grid("node"), models("fp32"), write)
    assert reason in (record.answers[1].reason or "")
    for run in record.runs[2:]:
        assert isinstance(run, Missing)
        assert reason in run.reason
    assert len(write.asked) == 1


class FirstRowTwice(FakeRuntimes):
    """Of a batch it knows the first row alone."""

    def wrote(self, model: Any, text: Text) -> Wrote:
        made = super().wrote(model, text)
        return Wrote(made.tokens[:1] * len(made.tokens), made.times)


def test_a_batch_whose_rows_are_wrong_has_no_times(models: Callable[[str], Path]) -> None:
    record = compared(grid("node"), models("fp32"), FirstRowTwice())
    alone, wrong = record.runs[2:]
    assert isinstance(alone, Run)
    assert isinstance(wrong, Missing)
    assert wrong.reason == "wrong at batch 2: row 2 isn't what it writes of it alone"
    (rows,) = (table.rows for table in tables(record) if table.title == "Side by side")
    assert (rows[0][-1], rows[2][-1]) == ("tokens/s at batch 2", "not there")
    assert float(rows[1][-1]) > 0


def test_without_a_reference_there_is_none(models: Callable[[str], Path]) -> None:
    def failing(job: Job) -> Any:
        return Reason("out of memory") if job.kind == "reference" else answer(job)

    record = compared(grid("node"), models("fp32"), FakeRuntimes(), do=failing)
    assert record.answers[1].reason == "no reference: out of memory"


def test_each_gets_the_folder_that_is_exported_for_it(checkpoint: Path) -> None:
    models = Exported("name", "identity", CachedExports(checkpoint))
    folders = {
        (runtime, precision): open_folder(models.folder(Configuration("cpu", precision, runtime)))
        for runtime in ("onnxruntime", "openvino", "node", "web")
        for precision in ("fp32", "int8")
    }
    assert {
        name: (folder.manifest["runtime"], folder.manifest["graph"])  # type: ignore[index]
        for name, folder in folders.items()
    } == {
        ("onnxruntime", "fp32"): ("onnxruntime", "fused"),
        ("onnxruntime", "int8"): ("onnxruntime", "fused"),
        ("openvino", "fp32"): ("openvino", "portable"),
        ("openvino", "int8"): ("openvino", "portable"),
        ("node", "fp32"): ("transformers.js", "masked"),
        ("node", "int8"): ("transformers.js", "masked"),
        ("web", "fp32"): ("transformers.js", "masked"),
        ("web", "int8"): ("transformers.js", "portable"),
    }
    own = models.folder(Configuration("cpu", "fp32"))
    assert own == folders["onnxruntime", "fp32"].path  # exported once
    with raises(ParameterError, parameters={"precision": "int4"}):
        models.folder(Configuration("cpu", "int4", "openvino"))


def test_nothing_is_exported_for_one_that_is_not_there(checkpoint: Path) -> None:
    exports = CachedExports(checkpoint)
    asked: list[str] = []

    def export(precision: str, device: str, runtime: str = "-", graph: str | None = None) -> Path:
        asked.append(runtime)
        return exports(precision, device)

    record = a_record(asked=an_asked(grid=grid("openvino"), prompts=PROMPTS))
    models = Exported("name", "identity", export)
    list(Comparison(grid("openvino"), models, record, answer, FakeRuntimes("openvino")).run())
    assert record.answers[1].reason == MISSING
    assert set(asked) == {"-"}


def test_the_report_has_agreement_beside_times(models: Callable[[str], Path]) -> None:
    record = compared(grid("node", "openvino"), models("fp32"), FakeRuntimes("openvino"))
    by_title = {table.title: table.rows for table in tables(record)}
    ours, theirs = by_title["Side by side"][1:]
    assert theirs[:5] == ["node fp32", "8", "same texts", "100.00%", "4"]
    assert theirs[6] == "1"
    assert (ours[5], ours[7]) == ("1", "1")
    first = record.runs[0].speed  # type: ignore[union-attr]
    assert float(theirs[5]) == pytest.approx(first.first_token_s / 4e-3, rel=0.01)
    assert float(theirs[7]) == pytest.approx(first.step_ms.median, rel=0.01)
    assert by_title["Which runtimes?"][1:] == [["node fp32", VERSION, "fused"]]
    assert theirs[9] == "2000"
    assert ["openvino fp32", "answers, 1 at 8, 2 at 8", MISSING] in by_title["Not there"]
    assert [row[0] for row in by_title["Where did it run?"][1:]] == ["cpu fp32"]
    text, page = markdown(record), render(record)
    assert text.startswith("# On which runtime?\n")
    assert f"| node fp32 | {VERSION} | fused |" in text
    assert "<title>On which runtime?</title>" in page


def test_a_record_without_runtimes_has_no_word_of_them(models: Callable[[str], Path]) -> None:
    asked = Grid(("cpu",), ("fp32",), (1,), (8,), new_tokens=NEW, threads=1)
    data = to_json(compared(asked, models("fp32"), FakeRuntimes()))
    assert not {"runtime", "program"} & {key for each in data["runs"] for key in each}
    assert not {"runtime", "program"} & {key for each in data["answers"] for key in each}
    assert "runtimes" not in data["grid"]
