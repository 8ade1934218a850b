"""Influence and perplexity beside transformers', and a pruned checkpoint in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2onnx.smaller.checkpoint import open_source
from gpt2onnx.smaller.prune.prune import prune
from gpt2onnx.smaller.prune.stream import block_influence, perplexity
from tests.checkpoints import make_checkpoint
from tests.conftest import torch_model
from tests.smaller.bpe_checkpoint import TEXT
from tests.smaller.idle_parts import make_idle_layer

IDS = np.random.default_rng(0).integers(257, size=(3, 40))


@pytest.mark.parametrize("tied", [True, False])
def test_perplexity_is_that_of_transformers_loss(tmp_path: Path, tied: bool) -> None:
    source = make_checkpoint(tmp_path, tie_word_embeddings=tied)
    ids = torch.from_numpy(IDS)
    with torch.no_grad():
        loss = torch_model(source)(ids, labels=ids).loss
    assert perplexity(open_source(source), IDS) == pytest.approx(float(loss.exp()), rel=1e-4)


def test_block_influence_is_of_transformers_hidden_states(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path, n_layer=3)
    streams: list[torch.Tensor] = []
    model = torch_model(source)
    for block in model.transformer.h:
        block.register_forward_hook(lambda _, given, made: streams.extend((given[0], _first(made))))
    with torch.no_grad():
        model(torch.from_numpy(IDS))
    pairs = zip(streams[::2], streams[1::2], strict=True)
    expected = [1 - float(torch.cosine_similarity(a, b, dim=-1).mean()) for a, b in pairs]
    assert block_influence(open_source(source), IDS) == pytest.approx(expected, abs=1e-5)


def _first(made: Any) -> torch.Tensor:
    return made[0] if isinstance(made, tuple) else made


@pytest.mark.parametrize("options", [{}, {"scale_attn_by_inverse_layer_idx": True}])
def test_without_an_idle_layer_logits_are_the_originals(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    source = make_idle_layer(tmp_path / "source", 1, n_layer=3, **options)
    prune(source, tmp_path / "out", [TEXT[:3000]], layers=2)
    loaded, info = GPT2LMHeadModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert loaded.config.n_layer == 2
    with torch.no_grad():
        old, new = (
            torch_model(folder)(torch.from_numpy(IDS)).logits
            for folder in (source, tmp_path / "out")
        )
    assert torch.allclose(old, new, atol=1e-4)
