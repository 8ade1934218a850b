"""A pruned checkpoint beside its original, what is measured before, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx.errors import OutputExistsError, ParameterError, PromptError, UnsupportedConfigError
from gpt2onnx.smaller.checkpoint import open_source
from gpt2onnx.smaller.prune.prune import Choice, open_pruning, prune
from tests.checkpoints import make_checkpoint
from tests.raising import raises
from tests.smaller.bpe_checkpoint import TEXT
from tests.smaller.idle_parts import make_idle_layer, make_idle_units

SOME = TEXT[:4000]


def test_a_layer_that_does_nothing_goes_first_and_costs_nothing(tmp_path: Path) -> None:
    source = make_idle_layer(tmp_path / "source", 1, n_layer=3)
    pruning = open_pruning(source, [SOME])
    assert np.argmin(pruning.influence) == 1
    assert pruning.influence[1] == pytest.approx(0, abs=1e-6)
    assert pruning.kept_layers(2) == [0, 2]
    before, after = prune(source, tmp_path / "out", [SOME], layers=2)
    assert after.perplexity == pytest.approx(before.perplexity, rel=1e-5)
    old, new = open_source(source), open_source(tmp_path / "out")
    assert new.config.n_layer == 2
    assert np.allclose(
        old.tensor("h.0.mlp.c_proj.weight"), new.tensor("h.0.mlp.c_proj.weight"), atol=1e-6
    )
    assert np.array_equal(old.tensor("h.2.ln_1.bias"), new.tensor("h.1.ln_1.bias"))
    assert (
        before.size
        > after.size
        == (tmp_path / "out" / "model.safetensors").stat().st_size
        - (8 + int.from_bytes((tmp_path / "out" / "model.safetensors").read_bytes()[:8], "little"))
    )


def test_units_and_layers_together(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", n_layer=3)
    prune(source, tmp_path / "out", [SOME[:2000], SOME[2000:]], layers=2, inner=96)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["n_layer"], config["n_inner"]) == (2, 96)
    before, after = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (source, tmp_path / "out")
    )
    assert before.keys() == after.keys()
    for name in before.keys() - {"config.json", "model.safetensors", "generation_config.json"}:
        assert before[name] == after[name]
    gpt2onnx.export(tmp_path / "out", tmp_path / "model", verify=False)
    assert gpt2onnx.load(tmp_path / "model").generate("def", max_new_tokens=3).text


def test_what_is_measured_is_what_is_written(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", n_layer=3)
    costs = prune(source, tmp_path / "out", [SOME], layers=2, inner=64)
    again = open_pruning(tmp_path / "out", [SOME]).costs([])
    assert again[0].choice == costs[1].choice == Choice(2, 64)
    assert again[0].perplexity == pytest.approx(costs[1].perplexity, rel=1e-6)


def test_several_are_measured_at_once(tmp_path: Path) -> None:
    pruning = open_pruning(make_idle_units(tmp_path / "source", n_layer=4), [SOME])
    offers = pruning.offers()
    assert offers == [(3, 128), (2, 128), (4, 64)]
    costs = pruning.costs(offers)
    assert [cost.choice for cost in costs] == [(4, 128), *offers]
    assert costs[3].perplexity == pytest.approx(costs[0].perplexity, rel=1e-5)
    assert all(cost.size < costs[0].size for cost in costs[1:])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": 3}, "layers=3: expected 1 to 2, as many as the checkpoint has"),
        ({"layers": 0}, "layers=0: expected 1 to 2"),
        ({"inner": 129}, "inner=129: expected 1 to 128, as many as the checkpoint has"),
        ({"inner": 1.5}, "inner=1.5: expected 1 to 128"),
        ({"layers": 2, "inner": 128}, "2 layers of 128 hidden units are all that"),
        ({}, "nothing is chosen: give layers, inner or both"),
    ],
)
def test_numbers_out_of_range(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ParameterError, match=said):
        prune(checkpoint, tmp_path / "out", [SOME], **options)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "short", "a" * 1023])
def test_too_short_a_text(checkpoint: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(PromptError, match=f"the text has {len(text):,} tokens: expected at least"):
        prune(checkpoint, tmp_path / "out", [text], layers=1)


def test_a_model_of_one_position_foresees_nothing(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", n_positions=1)
    with pytest.raises(UnsupportedConfigError, match="n_positions must be at least 2"):
        prune(source, tmp_path / "out", [SOME], layers=1)


def test_what_is_there_stays(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with raises(OutputExistsError, path=tmp_path):
        prune(checkpoint, tmp_path, [SOME], layers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_text_that_the_model_does_not_know_is_told(checkpoint: Path) -> None:
    """A random model is worse than guessing."""
    assert "worse than guessing among its 257 tokens" in open_pruning(checkpoint, [SOME]).note


def test_held_out_windows_are_not_fitted_on(checkpoint: Path) -> None:
    windows = open_pruning(checkpoint, [SOME]).windows
    assert windows.total == 4000
    assert (windows.fit.shape, windows.held_out.shape) == ((47, 64), (15, 64))
    fitted = {bytes(window) for window in windows.fit}
    assert not fitted & {bytes(window) for window in windows.held_out}


def test_every_position_counts_where_scores_depend_on_the_layer(tmp_path: Path) -> None:
    source = make_idle_layer(
        tmp_path / "source", 1, n_layer=3, scale_attn_by_inverse_layer_idx=True
    )
    before, after = prune(source, tmp_path / "out", [SOME], layers=2)
    assert after.perplexity == pytest.approx(before.perplexity, rel=1e-5)
