"""How the demo models were made: what was held out, how steps go, what a card says."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs [verify]")
pytest.importorskip("transformers", reason="training needs [verify]")

import torch

from gpt2onnx.demo import CHECKPOINT, HELD_OUT
from training import corpus, draft, model, training
from training.__main__ import main, move_into_place


def test_what_was_held_out_is_what_the_hash_says() -> None:
    names = HELD_OUT.read_text(encoding="utf-8").split()
    assert all(corpus.is_held_out(name) for name in names)
    others = sum(corpus.is_held_out(f"module_{number}") for number in range(10_000))
    assert 400 < others < 600  # one in twenty


@pytest.mark.parametrize(
    ("path", "name"), [("json/__init__.py", "json"), ("json/tool.py", "json.tool")]
)
def test_a_module_has_its_dotted_name(path: str, name: str) -> None:
    assert corpus.module_name(Path(path)) == name


@pytest.mark.parametrize(
    "path", ["test/support.py", "json/tests/x.py", "config-3.11/x.py", "locale.py"]
)
def test_tests_tables_and_settings_are_not_read(path: str) -> None:
    assert not corpus.is_wanted(Path(path))
    assert corpus.is_wanted(Path("json/tool.py"))


def test_the_learning_rate_warms_up_and_falls_to_a_fiftieth() -> None:
    factors = [training.learning_rate_factor(step, 300) for step in range(301)]
    assert factors[0] == 0.1
    assert factors[9] == factors[10] == 1
    assert factors[300] == pytest.approx(0.02)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_each_batch_has_a_steps_tokens_and_the_target_is_the_next_token() -> None:
    stream = np.arange(50_000)
    batch = next(training.batches(stream, 256, np.random.default_rng(0)))
    assert batch.ids.shape == (16, 257)
    assert batch.inputs.numel() == training.TOKENS_PER_STEP
    assert torch.equal(batch.targets, batch.inputs.reshape(-1) + 1)
    assert set(batch.offsets.tolist()) <= {0, 256, 512, 768}


def test_every_token_but_the_first_is_predicted_once() -> None:
    document = np.arange(2500)
    pieces = [piece[0] for piece in model.pieces([document])]
    predicted = torch.cat([piece[1:] for piece in pieces])
    assert predicted.tolist() == list(range(1, 2500))
    assert max(map(len, pieces)) == model.POSITIONS + 1


def test_the_recipe_is_the_bundled_target() -> None:
    made = model.build_model(model.TARGET).config
    kept = type(made).from_pretrained(CHECKPOINT)
    for field in ("n_embd", "n_layer", "n_head", "n_positions", "vocab_size", "eos_token_id"):
        assert getattr(made, field) == getattr(kept, field)


def test_the_draft_alone_is_a_student_of_the_target_that_stands_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = corpus.load_corpus()
    few = corpus.Corpus(library.training[:8], library.held_out[:2])
    monkeypatch.setattr("training.__main__.load_corpus", lambda: few)
    monkeypatch.setitem(draft.DRAFT, "samples", 8)
    monkeypatch.setattr("sys.argv", ["training", "--draft", "--draft-steps=2", f"--out={tmp_path}"])
    copytree(CHECKPOINT, tmp_path / "model")
    assert main() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft", "model"]
    made = model.GPT2LMHeadModel.from_pretrained(tmp_path / "draft")
    assert (made.config.n_layer, made.config.n_embd) == (draft.DRAFT["layers"], 128)
    assert f"| parameters | {made.num_parameters():,}, stored as float16 |" in (
        tmp_path / "draft" / "README.md"
    ).read_text(encoding="utf-8")


def test_an_earlier_run_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    made, out = tmp_path / "made", tmp_path / "out"
    for folder in (made, out):
        (folder / "model").mkdir(parents=True)
    (made / "model" / "new").touch()
    (made / ".gitignore").touch()
    (out / "model" / "old").touch()
    (out / "kept.py").touch()
    move_into_place(made, out)
    assert sorted(path.name for path in out.rglob("*")) == ["kept.py", "model", "new"]
