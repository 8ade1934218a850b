"""The tree of a search: every level stands below the one before."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import pytest

from gpt2onnx.samplers import BeamSearch, GenerationParams
from gpt2onnx.samplers.beam.tree import BeamTree, parent_of, way_of
from tests.fake_decoder import by_history
from tests.samplers.searching import logits


@pytest.mark.parametrize(
    "parameters",
    [{"num_beams": 3}, {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}],
)
@pytest.mark.parametrize("seed", range(4))
def test_each_branch_stands_below_its_parent(parameters: dict[str, Any], seed: int) -> None:
    rule = by_history(6, seed)
    params = GenerationParams(max_new_tokens=5, eos_token_id=3, **parameters)
    search = BeamSearch(params, np.array([1, 2]), 0, room=100)
    tree, above, finished = BeamTree(), [((), ())], set()
    while search.running:
        branches = search.advance(logits(rule, search))
        level = tree.grow(branches)
        assert {id(branch) for branch, _ in level} == {id(branch) for branch in branches}
        ways = [way_of(branch.hypothesis) for branch, _ in level]
        assert [parent_of(way) for way in ways] == [above[parent] for _, parent in level]
        families = [[branch for branch, _ in f] for _, f in groupby(level, lambda each: each[1])]
        assert len(families) == len({parent for _, parent in level})
        for siblings in families:
            scores = [branch.hypothesis.score for branch in siblings]
            assert scores == sorted(scores, reverse=True)
        finished |= {way for way, (b, _) in zip(ways, level, strict=True) if b.fate == "finished"}
        above = ways
    assert {way_of(each.hypothesis) for each in search.best()} <= finished
