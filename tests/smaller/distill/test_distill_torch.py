"""Distillations of small models: what comes out, what a stopped run leaves, and how it goes on."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2onnx.agreement import Agreement
from gpt2onnx.errors import (
    CheckpointError,
    OutputExistsError,
    ParameterError,
    PromptError,
    TextWarning,
)
from gpt2onnx.smaller.distill.corpus import Text, end_to_end
from gpt2onnx.smaller.distill.distill import Distilled, distill
from gpt2onnx.smaller.distill.measures import measure
from gpt2onnx.smaller.distill.recipe import Recipe
from gpt2onnx.smaller.distill.samples import behind
from gpt2onnx.smaller.distill.training import Training, steps_in
from gpt2onnx.staging import work_folder
from tests.checkpoints import make_checkpoint
from tests.export.logits import load_reference, reference_logits

TEXT = "".join(chr(97 + n * n % 23) for n in range(1200))
STEPS = {"steps": 6, "tokens": 64, "window": 16, "learning_rate": 3e-3}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with warnings.catch_warnings():  # a random model knows no text
        warnings.simplefilter("ignore", TextWarning)
        yield


def run(teacher: Path, out: Path, **options: Any) -> Distilled:
    given = {"layers": 1, "texts": [TEXT], "time_it": False, **STEPS}
    return distill(teacher, out, **{**given, **options})


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


class Stop:
    """A progress that is interrupted after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, label: str, done: int, *more: Any) -> None:
        if (label, done) == ("training", self.step):
            raise KeyboardInterrupt


def test_a_student_is_nearer_to_its_teacher_than_when_it_began(
    checkpoint: Path, tmp_path: Path
) -> None:
    few = run(checkpoint, tmp_path / "few", steps=1, learning_rate=0.0)
    made = run(checkpoint, tmp_path / "student", steps=60)
    assert made.worth.measure.kl < 0.7 * few.worth.measure.kl
    assert made.worth.measure.acceptance > few.worth.measure.acceptance
    assert made.steps == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few", "student"]
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "student")
    assert model.config.n_layer == 1
    assert "60; on" in str(made)


def test_figures_are_transformers_and_agreement_s(checkpoint: Path, tmp_path: Path) -> None:
    student = load_reference(make_checkpoint(tmp_path, seed=1))
    teacher = load_reference(checkpoint)
    ids = np.random.default_rng(0).integers(256, size=50)
    found = measure(student, teacher, end_to_end([], [Text.whole(ids)], 50).pieces(64), "cpu")
    expected = Agreement()
    expected.add(reference_logits(teacher, ids[:-1]), reference_logits(student, ids[:-1]))
    assert found.tokens == 49
    assert found.kl == pytest.approx(expected.kl_mean, rel=1e-5)
    assert found.acceptance == expected.top1_agreement
    with torch.inference_mode():
        tokens = torch.from_numpy(ids)[None]
        losses = [float(model(tokens, labels=tokens).loss) for model in (student, teacher)]
    assert found.perplexity == pytest.approx(math.exp(losses[0]), rel=1e-5)
    assert found.teacher_perplexity == pytest.approx(math.exp(losses[1]), rel=1e-5)


def test_a_whole_student_is_its_teacher(checkpoint: Path, tmp_path: Path) -> None:
    made = run(checkpoint, tmp_path / "student", layers=2, steps=1, learning_rate=0.0)
    assert made.worth.measure.kl == pytest.approx(0, abs=1e-6)
    assert made.worth.measure.acceptance == 1
    assert made.worth.bits_per_byte == pytest.approx(made.worth.teacher_bits_per_byte)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    checkpoint: Path, tmp_path: Path, stop: int
) -> None:
    whole = run(checkpoint, tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, out, progress=Stop(stop))
    assert not out.exists()
    best = next((tmp_path / "out.distill").glob("best-*"))
    assert GPT2LMHeadModel.from_pretrained(best).config.n_layer == 1
    with pytest.raises(OutputExistsError, match="a run that isn't over; go on with it by resume"):
        run(checkpoint, out)
    again = run(checkpoint, out, resume=True)
    assert digest(out) == digest(tmp_path / "whole")
    assert again.worth == whole.worth
    assert again.best_step == whole.best_step
    assert not (tmp_path / "out.distill").exists()


def test_stopped_twice_between_two_saves(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done since the last save is done again, and comes out the same."""
    monkeypatch.setattr("gpt2onnx.smaller.distill.recipe.MEASURES", 2)
    run(checkpoint, tmp_path / "whole")
    out = tmp_path / "out"
    for stop, resume in ((2, False), (5, True)):
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint, out, progress=Stop(stop), resume=resume)
    run(checkpoint, out, resume=True)
    assert digest(out) == digest(tmp_path / "whole")


def test_a_run_goes_on_as_it_was_begun(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match="expected a run to go on with, found none"):
        run(checkpoint, out, resume=True)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, out, progress=Stop(2))
    others: dict[str, tuple[Any, str]] = {
        "seed": (1, "seed=1: the run in DIR was begun with 0"),
        "width": (16, "width=16: the run in DIR was begun with None"),
        "steps": (7, "steps=7: the run in DIR was begun with 6"),
        "texts": ([TEXT, "more"], "texts: the run in DIR was begun with others"),
        "held_out": (["more"], "held_out: the run in DIR was begun with others"),
    }
    for name, (value, message) in others.items():
        with pytest.raises(ParameterError) as raised:
            run(checkpoint, out, resume=True, **{name: value})
        assert str(raised.value).startswith(message.replace("DIR", f"{out}.distill"))
    other = make_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(ParameterError, match=r"^teacher: the run in .* with others"):
        run(other, out, resume=True)
    (tmp_path / "out.distill" / "state.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match=r"state\.pt: damaged: "):
        run(checkpoint, out, resume=True)
    (tmp_path / "out.distill" / "corpus.npz").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"corpus\.npz: damaged: "):
        run(checkpoint, out, resume=True)


def test_a_teacher_writes_where_there_is_no_text(checkpoint: Path, tmp_path: Path) -> None:
    options = {"texts": (), "samples": 70, "width": 16}
    made = run(checkpoint, tmp_path / "a", **options)
    assert made.worth.measure.tokens > 20
    run(checkpoint, tmp_path / "b", **options)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


@pytest.mark.parametrize("greedy", [False, True])
def test_a_teacher_goes_on_from_texts(checkpoint: Path, tmp_path: Path, greedy: bool) -> None:
    options = {"samples": 40, "greedy": greedy, "text_share": 1.0, "steps": 60}
    made = run(checkpoint, tmp_path / "a", **options)
    assert 2 * 9 <= made.worth.measure.tokens <= 2 * 16  # of two texts what the teacher wrote
    again = tmp_path / "b"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, again, **options, progress=Stop(3))
    assert run(checkpoint, again, **options, resume=True).worth == made.worth
    assert digest(tmp_path / "a") == digest(again)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, tmp_path / "c", **options, progress=Stop(1))
    with pytest.raises(ParameterError, match=f"greedy={not greedy}: the run in .* with {greedy}"):
        run(checkpoint, tmp_path / "c", **{**options, "greedy": not greedy}, resume=True)


def test_what_it_writes_greedily_is_its_own_choice(checkpoint: Path) -> None:
    from gpt2onnx.export.exporter import export

    texts = end_to_end([Text.whole(np.arange(200))], [Text.whole(np.arange(90))], 90)
    with work_folder("distill") as folder:
        model = export(checkpoint, folder / "model", precision="fp32", verify=False).folder
        found = behind(model, texts, 20, 16, True, 0, lambda *_, **__: None)
    assert found.stride == 17
    teacher = load_reference(checkpoint)
    documents = [*found.stream.reshape(20, 17), *found.held_out.reshape(1, 17)]
    written = [*found.learned.reshape(20, 17), *found.judged.reshape(1, 17)]
    given = [17 - int(own.sum()) for own in written]
    assert set(given) <= set(range(1, 9))  # up to half a window
    assert len(set(given)) > 4
    for document, own, count in zip(documents, written, given, strict=True):
        assert own[count:].all()
        assert (np.diff(document[:count]) == 1).all()  # a piece of the text
        chosen = reference_logits(teacher, document[:-1]).argmax(-1)
        assert chosen[count - 1 :].tolist() == document[count:].tolist()


def test_the_draft_is_timed(checkpoint: Path, tmp_path: Path) -> None:
    made = run(checkpoint, tmp_path / "student", time_it=True, steps=1)
    assert made.worth.speedup is not None
    assert made.worth.speedup > 0
    assert str(made).endswith(f"greedy tokens, {made.worth.speedup:.2f} times as fast as without")


def test_short_windows_stand_anywhere(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[int, int]] = set()
    compute = Training._log_probabilities

    def watched(training: Training, model: Any, ids: Any, positions: Any) -> Any:
        seen.update((len(row), row[0]) for row in positions.tolist())
        return compute(training, model, ids, positions)

    monkeypatch.setattr(Training, "_log_probabilities", watched)
    run(checkpoint, tmp_path / "out", steps=100)
    assert seen == {(64, 0), *((16, start) for start in range(64 - 16 + 1))}


def test_steps_of_both_windows_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(100, 64, 16, 64, 1e-3, 0.1, 0)
    clock = SimpleNamespace(now=0.0)

    def take_step() -> None:
        training.step += 1
        clock.now += 9 if training.step == 1 else 3 if recipe.window_at(training.step) == 16 else 8

    training: Any = SimpleNamespace(recipe=recipe, step=0, take_step=take_step)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    assert steps_in(3600, training) == 3600 / (0.8 * 3 + 0.2 * 8)


def test_hours_become_steps(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt2onnx.smaller.distill.teaching.steps_in", lambda seconds, _: seconds)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, tmp_path / "a", hours=2, steps=None, progress=Stop(1))
    assert json.loads((tmp_path / "a.distill" / "run.json").read_text())["planned_steps"] == 7200


def test_the_type_is_the_teacher_s(tmp_path: Path) -> None:
    from tests.torch_checkpoints import save_checkpoint

    teacher = save_checkpoint(tmp_path / "teacher", dtype="float16")
    run(teacher, tmp_path / "student", steps=1)
    assert (
        GPT2LMHeadModel.from_pretrained(tmp_path / "student", dtype="auto").dtype == torch.float16
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": 3}, ParameterError, "layers=3: expected 1 to 2"),
        ({"texts": [""]}, PromptError, "the 64 of a context, and some held out, found 0 and 0"),
        ({"samples": 5, "held_out": ["abcdef"]}, PromptError, "the 8 that a sample begins with, "),
        (
            {"greedy": True},
            ParameterError,
            "greedy=True is how the teacher goes on from texts: giv",
        ),
        ({"greedy": 1}, ParameterError, "greedy=1: expected True or False"),
        ({"texts": (), "samples": 5, "greedy": True}, ParameterError, "greedy=True is how"),
        ({"texts": (), "samples": 1}, ParameterError, "samples=1: expected an integer of at leas"),
        ({"texts": (), "held_out": ["a"]}, ParameterError, "held_out has no effect where"),
        ({"steps": 0}, ParameterError, "steps=0: expected"),
        ({"hours": 1}, ParameterError, "hours=1 and steps=6 each say how long"),
        ({"hours": 0, "steps": None}, ParameterError, "hours=0: expected a number above 0"),
        ({"device": "tpu"}, ParameterError, "device='tpu'"),
        ({"resume": 1}, ParameterError, "resume=1: expected True or False"),
    ],
)
def test_what_is_refused(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error) as raised:
        run(checkpoint, tmp_path / "out", **options)
    assert message in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_text_of_another_language_is_told(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.warns(TextWarning, match="no better than chance among 257 tokens"):
        run(checkpoint, tmp_path / "out", steps=1)


def test_a_loss_that_is_no_number(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gpt2onnx.smaller.distill.training.Training._loss", lambda _: torch.tensor(math.nan)
    )
    with pytest.raises(ParameterError, match=r"^learning_rate=0\.003: the loss is no number any"):
        run(checkpoint, tmp_path / "out")
