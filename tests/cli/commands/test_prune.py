from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import make_checkpoint
from tests.cli.conftest import Run
from tests.smaller.bpe_checkpoint import TEXT


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("source"), n_layer=3)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_text(TEXT[:2000], encoding="utf-8")
    return path


def rows(shown: str) -> list[list[str]]:
    """The first two columns: layers and hidden units."""
    return [line.split()[:2] for line in shown.splitlines()]


def test_a_pruned_checkpoint_is_exported_and_writes(
    run: Run, source: Path, text: Path, tmp_path: Path
) -> None:
    out, model = tmp_path / "out", tmp_path / "model"
    choice = ("--layers", 2, "--inner", 64)
    status, shown, err = run("prune", source, out, "--text", text, *choice)
    assert status == 0
    assert err.startswith("gpt2onnx: warning: the model's perplexity on the text is ")
    *table, last = shown.splitlines()
    measured = [["layers", "inner"], ["3", "128"], ["2", "128"], ["3", "64"], ["2", "64"]]
    assert rows("\n".join(table)) == measured
    assert last == f"{out}: 0.1 of 0.2 MB"
    assert run("export", out, model, "--no-verify")[0] == 0
    assert run("generate", "def main", "--model", model, "--max-new-tokens", 3)[0] == 0


def test_without_a_place_choices_are_told_and_nothing_is_written(
    run: Run, source: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, shown, _ = run("prune", source, "--text", text)
    assert status == 0
    offered = [["3", "128"], ["2", "128"], ["1", "128"], ["3", "64"]]
    assert rows(shown) == [["layers", "inner"], *offered]
    status, shown, _ = run("prune", source, "--text", text, "--inner", "100")
    assert rows(shown) == [["layers", "inner"], ["3", "128"], ["3", "100"]]
    assert not any(tmp_path.iterdir())


def test_without_a_choice_nothing_is_written(
    run: Run, source: Path, text: Path, tmp_path: Path
) -> None:
    status, shown, err = run("prune", source, tmp_path / "out", "--text", text)
    assert status == 2
    assert len(rows(shown)) == 5
    assert err.endswith("error: nothing is chosen: give --layers, --inner or both\n")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layers", "4"], "--layers 4: expected 1 to 3, as many as the checkpoint has"),
        (["--inner", "0"], "--inner 0: expected 1 to 128, as many as the checkpoint has"),
        (["--layers", "3"], "3 layers of 128 hidden units are all that the checkpoint has"),
    ],
)
def test_what_cannot_be_is_one_line(
    run: Run, source: Path, text: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    status, shown, err = run("prune", source, tmp_path / "out", "--text", text, *options)
    assert (status, shown) == (2, "")
    assert err.startswith(f"gpt2onnx: error: {said}")
    assert not any(tmp_path.iterdir())


def test_a_text_that_is_too_short(run: Run, source: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("short", encoding="utf-8")
    status, _, err = run("prune", source, "--text", tmp_path / "text", "--layers", 2)
    assert status == 2
    assert err.startswith("gpt2onnx: error: the text has 5 tokens: expected at least 1,024")
