"""The grid: two configurations of the CPU, ones that are not there, one that answers wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx.agreement import Agreement
from gpt2onnx.compare import ours
from gpt2onnx.compare.comparison import Comparison
from gpt2onnx.compare.measure import answers
from gpt2onnx.compare.measure.job import Job, Reason
from gpt2onnx.compare.measure.jobs import answer
from gpt2onnx.compare.models import Exported, Given
from gpt2onnx.compare.record.answers import Ran
from gpt2onnx.compare.record.grid import REFERENCE, Configuration, Grid
from gpt2onnx.compare.record.record import Record, read
from gpt2onnx.compare.record.runs import Missing, Run
from gpt2onnx.compare.record.schema import to_json
from gpt2onnx.compare.report.findings import findings
from gpt2onnx.errors import ParameterError, ProviderError
from gpt2onnx.export.cached import CachedExports
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.protocol import Logits, Read, Result
from gpt2onnx.runtime.ort.provider import require_provider
from tests.checkpoints import make_checkpoint
from tests.compare.records import a_record, an_asked
from tests.raising import raises

PROMPTS = ["hello there", "one two three"]
CUDA_MISSING = "cuda can't run here: "


def compared(
    grid: Grid,
    folders: list[Path],
    do: Callable[[Job], Any] = answer,
    before: Record | None = None,
) -> Record:
    models = Given(folders)
    record = a_record(asked=an_asked(grid=grid, reference=models.reference, prompts=PROMPTS))
    if before is not None:
        record.resume(reread(before))
    comparing = Comparison(grid, models, record, do)
    assert len(list(comparing.run())) == comparing.steps
    return record


def reread(record: Record) -> Record:
    """A record as its file gives it back."""
    return read(json.loads(json.dumps(to_json(record))), "compare.json", ParameterError)


def grid(*precisions: str, providers: tuple[str, ...] = ("cpu",)) -> Grid:
    return Grid(providers, precisions, (1, 2), (8,), new_tokens=6, threads=1)


@pytest.mark.usefixtures("todays_graph")
def test_resuming_on_other_graphs_adds_what_is_new_and_tells_what_is_gone(
    models: Callable[[str], Path],
) -> None:
    jobs: list[Job] = []

    def noted(job: Job) -> Any:
        jobs.append(job)
        return answer(job)

    folders, one = [models("fp32"), models("int8")], grid("fp32", "int8")
    before = compared(one, folders)
    both = replace(one, kernels=("int8",))
    record = compared(both, folders, noted, before)
    assert [(job.kind, job.graph) for job in jobs] == [("placement", "kernels")]  # and is refused
    assert [str(each.configuration) for each in record.answers] == [
        *("cpu fp32", "cpu int8", "cpu int8 kernels"),
    ]
    assert record.runs[:4] == before.runs
    assert [type(run) for run in record.runs[4:]] == [Missing, Missing]
    assert "switched off" in record.runs[4].reason

    alone = a_record(asked=replace(record.asked, grid=replace(one, graph="kernels")))
    assert alone.resume(before) == [Configuration("cpu", "fp32"), Configuration("cpu", "int8")]
    assert (alone.answers, alone.runs) == ([], [])
    with raises(ParameterError, name="grid"):
        alone.resume(replace(before, asked=replace(before.asked, grid=grid("fp32"))))


def test_two_configurations_of_the_cpu(models: Callable[[str], Path]) -> None:
    folders = [models("fp32"), models("int8")]
    record = compared(grid("fp32", "int8"), folders)
    assert [run.status for run in record.runs] == ["ok"] * 4
    same, rounded = (each.agreement for each in record.answers)
    assert same.figures.max_logit_difference == same.figures.kl_mean == 0
    assert (same.figures.top1_agreement, same.partings.verdict) == (1, "same")
    # Worked out once more, through the library alone.
    expected = Agreement()
    opened = [gpt2onnx.load(folder, threads=1) for folder in folders]
    for prompt in PROMPTS:
        written = opened[0].generate(prompt, max_new_tokens=6, eos_token_id=None)
        ids = np.array([*written.prompt_token_ids, *written.token_ids])
        expected.add(*(reads.extend(each.decoder, each.decoder.new_row(), ids) for each in opened))
    for name in ("max_logit_difference", "logit_difference_p999", "kl_mean", "top1_agreement"):
        found = getattr(rounded.figures, name)
        assert found == pytest.approx(getattr(expected, name)), name
    assert len(rounded.by_position.kl) == len(PROMPTS[1]) + 6
    assert record.runs[2].agreement == rounded.summary
    assert record.runs[2].placement == Ran("cpu", share=1.0, copies=0, captured=False)
    assert reread(record) == record


def test_a_provider_that_is_not_there_is_a_row_that_says_why(
    models: Callable[[str], Path],
) -> None:
    try:
        require_provider("cuda")
    except ProviderError:
        record = compared(grid("fp32", providers=("cuda", "cpu")), [models("fp32")])
    else:
        pytest.skip("cuda runs here")
    missing, there = record.runs[:2], record.runs[2:]
    for run in missing:
        assert isinstance(run, Missing)
        assert run.cell.configuration.provider == "cuda"
        assert run.reason.startswith(CUDA_MISSING)
        keys = ["provider", "precision", "batch", "context", "status", "reason"]
        assert list(to_json(run)) == keys
    assert all(isinstance(run, Run) for run in there)


def test_a_precision_that_cannot_be_made_for_a_provider(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where CUDA runs: int8-dynamic is a row that says why, no process is asked for it."""
    monkeypatch.setattr(ours, "require_provider", lambda provider: None)
    models = Exported("name", "identity", CachedExports(checkpoint))
    record = a_record(asked=an_asked(prompts=PROMPTS))
    asked = grid("int8-dynamic", providers=("cuda",))
    list(Comparison(asked, models, record, pytest.fail).run())
    assert [run.status for run in record.runs] == ["unavailable"] * 2
    assert "'int8-dynamic' has no CUDA kernels" in record.runs[0].reason


@pytest.mark.parametrize("wrong", ["shuffled", "shifted", "nan"])
def test_wrong_answers_are_caught(
    wrong: str, models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider whose logits are another token's, nudged, or no numbers."""
    real = answers.open_model

    def broken(job: Job) -> gpt2onnx.Model:
        model = real(job)
        if job.kind == "answers":
            monkeypatch.setattr(model.decoder, "read", spoiled(model.decoder.read))
        return model

    def spoiled(right: Callable[[Sequence[Read]], list[Result]]) -> Callable[..., list[Result]]:
        def other(logits: Logits) -> Logits:
            if wrong == "nan":
                return np.full_like(logits, np.nan)
            if wrong == "shifted":
                return logits + np.linspace(0, 1, logits.shape[-1], dtype=np.float32)
            return np.roll(logits, 1, axis=-1)

        def read(reads: Sequence[Read]) -> list[Result]:
            return [result._replace(logits=other(result.logits)) for result in right(reads)]

        return read

    monkeypatch.setattr(answers, "open_model", broken)
    record = compared(grid("fp32"), [models("fp32")])
    (found,) = record.answers
    said = findings(record)
    if wrong == "nan":
        assert found.status == "unavailable"
        assert "logits that are no numbers" in found.reason
        assert said[0].startswith("cpu fp32: its answers could not be compared: cpu gives logits")
        return
    agreement = found.agreement
    if wrong == "shifted":
        assert agreement.figures.max_logit_difference == pytest.approx(1, abs=1e-5)
        assert agreement.figures.kl_mean > 1e-3
    else:
        assert agreement.figures.top1_agreement < 0.5
        assert agreement.partings.texts_parted == 2
        assert agreement.partings.verdict == "differs"
        assert said[0].startswith("cpu fp32 DIFFERS: it writes another text where")


def test_a_crash_is_its_rows_alone_and_resuming_tries_it_again(
    models: Callable[[str], Path],
) -> None:
    def crashing(job: Job) -> Any:
        if job.kind == "speed" and job.batch == 2:
            return Reason("its process was ended by SIGABRT")
        return answer(job)

    before = compared(grid("fp32"), [models("fp32")], crashing)
    assert [run.status for run in before.runs] == ["ok", "unavailable"]
    asked: list[Job] = []

    def asking(job: Job) -> Any:
        asked.append(job)
        return answer(job)

    after = compared(grid("fp32"), [models("fp32")], asking, before)
    assert [(job.kind, job.batch) for job in asked] == [("speed", 2)]
    assert [run.status for run in after.runs] == ["ok", "ok"]
    assert after.runs[0] == before.runs[0]


def test_what_is_tried_again_gets_its_place_and_the_newest_agreement(
    models: Callable[[str], Path],
) -> None:
    def crashing(job: Job) -> Any:
        first = str(models("fp32")) == job.folder
        if first and (job.kind == "answers" or (job.kind, job.batch) == ("speed", 1)):
            return Reason("its process was ended by SIGABRT")
        return answer(job)

    folders = [models("fp32"), models("int8")]
    before = compared(grid("fp32", "int8"), folders, crashing)
    assert [run.status for run in before.runs] == ["unavailable", "ok", "ok", "ok"]
    assert before.runs[1].agreement is None
    after = compared(grid("fp32", "int8"), folders, before=before)
    assert [(run.cell.configuration.precision, run.cell.batch) for run in after.runs] == [
        *(("fp32", 1), ("fp32", 2), ("int8", 1), ("int8", 2)),
    ]
    assert [each.configuration.precision for each in after.answers] == ["fp32", "int8"]
    assert after.runs[1].agreement.partings.verdict == "same"
    assert after.runs[1].speed == before.runs[1].speed
    assert after.runs[2:] == before.runs[2:]


def test_without_a_reference_there_is_no_agreement(models: Callable[[str], Path]) -> None:
    def failing(job: Job) -> Any:
        return Reason("out of memory") if job.kind == "reference" else answer(job)

    record = compared(grid("fp32"), [models("fp32")], failing)
    assert record.answers[0].reason == "no reference: out of memory"
    assert [run.status for run in record.runs] == ["ok", "ok"]
    assert record.runs[0].agreement is None


def test_the_reference_of_given_folders(models: Callable[[str], Path]) -> None:
    assert Given([models("int8"), models("fp32")]).reference == REFERENCE
    assert Given([models("int8")]).reference == Configuration("cpu", "int8")
    with pytest.raises(ParameterError, match="fp32, fp32: expected each of them once"):
        Given([models("fp32"), models("fp32")])


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_layer", 1), ("n_embd", 64), ("n_head", 2), ("n_positions", 128), ("vocab_size", 260)],
)
def test_two_models_with_one_tokenizer_are_refused(
    name: str, value: int, models: Callable[[str], Path], tmp_path: Path
) -> None:
    """A model and its draft in another precision are not that model in two precisions."""
    other = Path(shutil.copytree(models("int8"), tmp_path / "draft"))
    (other / "manifest.json").unlink()  # another exporter's
    config = json.loads((other / "config.json").read_text())
    Given([models("fp32"), other])
    (other / "config.json").write_text(json.dumps({**config, name: value}))
    said = rf"have {name}={config[name]} and {name}={value}: expected one model in several"
    with pytest.raises(ParameterError, match=said):
        Given([models("fp32"), other])
    del config[name]  # transformers' default, which the folder doesn't tell
    (other / "config.json").write_text(json.dumps(config))
    Given([models("fp32"), other])


@pytest.mark.parametrize("changed", ["model.onnx", "model.onnx.data", "tokenizer.json"])
def test_a_changed_file_is_another_model(
    changed: str, models: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(models("fp32"), tmp_path / "model"))
    (folder / "manifest.json").unlink()  # another exporter's
    before = Given([folder]).identity
    assert Given([folder]).identity == before
    content = bytearray((folder / changed).read_bytes())
    content[-1] ^= 1
    (folder / changed).write_bytes(content)
    assert Given([folder]).identity != before


def test_another_grids_record_is_refused(models: Callable[[str], Path]) -> None:
    before = compared(grid("fp32"), [models("fp32")])
    other = Grid(("cpu",), ("fp32",), (1,), (8,), new_tokens=6, threads=1)
    with raises(ParameterError, name="grid"):
        compared(other, [models("fp32")], before=before)


@pytest.mark.cuda
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_on_a_gpu_the_answers_hold(cuda_graph: bool, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_embd=128, n_head=2)  # heads as GPT-2's
    half = gpt2onnx.export(checkpoint, tmp_path / "m", precision="fp16", device="cuda").folder
    grid_ = Grid(("cuda",), ("fp16",), (1,), (8,), new_tokens=6, cuda_graph=cuda_graph)
    record = compared(grid_, [half])
    placement = record.runs[0].placement
    assert (placement.provider, placement.captured) == ("cuda", cuda_graph)
    assert record.runs[0].agreement.figures.top1_agreement > 0.9
