"""Branches of the fused graph: what each token sees, against PyTorch, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx.errors import CacheFullError, ParameterError
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.decoding.lookahead.draft_tree import DraftTree
from gpt2onnx.runtime.decoding.lookahead.window import JacobiWindow
from gpt2onnx.runtime.folder.model_folder import open_folder
from tests.conftest import WIDE
from tests.raising import raises
from tests.runtime.conftest import opened

VOCAB = 257
RNG = np.random.default_rng(4)
PAST = RNG.integers(0, VOCAB, 200)
# The last two with an int8 KV cache.
PRECISIONS = ["fp32", "fp16", "int8", "int8-dynamic", "int4", "fp32 int8", "int8 int8"]
# A bias goes through attention on another path, whose last bits may move an activation of 8 bits by
# a level; by how much that moves a logit depends on the processor.
NEAR = {"fp32": 1e-5, "int8": 0.1}
MASKS = {
    "text": np.tri(9, dtype=np.bool_),
    "tree": DraftTree([[1, 2, 3, 4], [1, 2, 5], [6, 7, 8]]).attention_mask,
    "window": JacobiWindow(5, 4, PAST).attention_mask,
    "random": np.tril(RNG.random((17, 17)) < 0.4) | np.eye(17, dtype=np.bool_),
}


@pytest.mark.parametrize("decoder", PRECISIONS, indirect=True)
def test_what_is_kept_goes_on_as_if_nothing_else_had_come(
    decoder: FusedDecoder, request: pytest.FixtureRequest
) -> None:
    """Each path of a tree against the same tokens read plainly."""
    near = NEAR.get(request.node.callspec.params["decoder"], 2e-2)
    guesses = [[1, 2, 3, 4], [1, 2, 5], [6, 7, 8]]
    tree = DraftTree(guesses)
    ids = np.concatenate([[9], tree.ids])
    for guess in guesses:
        path = [0]
        for token in guess:
            path.append(tree.child(path[-1], token) or 0)
        plain, row = decoder.new_row(), decoder.new_row()
        for each in (plain, row):
            reads.prefill(decoder, each, PAST[:130])
        expected = reads.extend(decoder, plain, np.array([9, *guess]))
        logits = reads.branch(decoder, row, ids, tree.attention_mask, np.array(path))
        decoder.accept(row, 130, np.array(path))
        assert row.length == plain.length == 131 + len(guess)
        np.testing.assert_allclose(logits, expected, atol=near)
        after = reads.extend(decoder, plain, PAST[:20])
        np.testing.assert_allclose(reads.extend(decoder, row, PAST[:20]), after, atol=near)
        stepped = reads.step(decoder, [plain, row], PAST[:2] * 0)
        np.testing.assert_allclose(stepped[1], stepped[0], atol=near)


@pytest.mark.parametrize("decoder", PRECISIONS, indirect=True)
def test_plain_runs_give_the_plain_graphs_bits(
    decoder: FusedDecoder, wide_models: Callable[[str], Path], request: pytest.FixtureRequest
) -> None:
    precision = request.node.callspec.params["decoder"]
    plain = opened(wide_models(*precision.split()))
    assert not plain.can_branch
    results = []
    for each in (plain, decoder):
        rows = [each.new_row() for _ in range(3)]
        logits = [reads.prefill(each, rows[0], PAST), reads.prefill(each, rows[1], PAST[:9])]
        logits += [*reads.extend(each, rows[2], PAST[:140]), *reads.step(each, rows, PAST[:3])]
        results.append(logits)
    np.testing.assert_array_equal(*results)


def test_a_branch_without_room_isnt_begun(decoder: FusedDecoder) -> None:
    row = decoder.new_row()
    reads.prefill(decoder, row, np.resize(PAST, WIDE["n_positions"] - 8))
    text = MASKS["text"]
    with raises(CacheFullError, found=WIDE["n_positions"] + 1):
        reads.branch(decoder, row, PAST[:9], text, np.arange(9))
    assert row.length == WIDE["n_positions"] - 8
    assert reads.branch(decoder, row, PAST[:8], text[:8, :8], np.arange(8)).shape == (
        8,
        VOCAB,
    )


def test_the_manifest_tells(told: Any, checkpoint: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"with_attention_bias": True, "with_hidden_states": True}
    made = gpt2onnx.export(checkpoint, tmp_path / "both", precision="fp32", **how)
    manifest = open_folder(made.folder).manifest
    assert manifest is not None
    assert (manifest["attention_bias"], manifest["hidden_states"]) == (True, True)
    both = gpt2onnx.load(made.folder, threads=1)
    given = {"max_new_tokens": 5, "eos_token_id": ()}
    assert len(both.generate("hello", penalty_alpha=0.6, top_k=3, **given).token_ids) == 5
    looking = both.generate("hello", lookahead_guess_set_size=3, **given)
    assert looking.token_ids == both.generate("hello", **given).token_ids


def test_the_portable_graph_has_none(checkpoint: Path, tmp_path: Path) -> None:
    with raises(ParameterError, parameters={"with_attention_bias": True}):
        gpt2onnx.export(
            checkpoint, tmp_path / "x", precision="fp32", graph="portable", with_attention_bias=True
        )
