"""A trimmed checkpoint in transformers: its tokenizer, and its logits bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel, GPT2Tokenizer

from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.smaller.trim.trim import trim
from tests.smaller.bpe_checkpoint import TEXT, make_bpe_checkpoint
from tests.smaller.trim.test_trim import table

SOME = TEXT[:3000]


def logits(folder: Path, ids: list[int]) -> torch.Tensor:
    torch.set_num_threads(1)
    model, info = GPT2LMHeadModel.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values())
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_kept_tokens_are_the_originals(tmp_path: Path, tied: bool) -> None:
    source = make_bpe_checkpoint(tmp_path / "source", tie_word_embeddings=tied)
    trim(source, tmp_path / "out", [SOME], size=512)
    ids = table(tmp_path / "out")
    text = [index for index in AutoTokenizer.from_pretrained(source).encode(SOME) if index in ids]
    before = logits(source, text[:60])
    after = logits(tmp_path / "out", [ids[index] for index in text[:60]])
    assert torch.equal(before[:, list(ids)], after)


def test_logits_of_the_bundled_model_are_the_originals(tmp_path: Path) -> None:
    trim(CHECKPOINT, tmp_path / "out", [SOME], size=1024)
    ids = table(tmp_path / "out")
    text = AutoTokenizer.from_pretrained(CHECKPOINT).encode(SOME)
    before = logits(CHECKPOINT, text)
    after = logits(tmp_path / "out", [ids[index] for index in text])
    assert torch.equal(before[:, list(ids)], after)


def test_transformers_reads_the_same_tokens(bpe_checkpoint: Path, tmp_path: Path) -> None:
    trim(bpe_checkpoint, tmp_path / "out", [SOME], size=500)
    ids = table(tmp_path / "out")
    before, after = (AutoTokenizer.from_pretrained(f) for f in (bpe_checkpoint, tmp_path / "out"))
    slow = GPT2Tokenizer.from_pretrained(tmp_path / "out")  # of vocab.json and merges.txt
    for text in (*SOME.splitlines(), "<|endoftext|>a<pad>", "日本 é"):
        old, new = before.encode(text), after.encode(text)
        assert slow.encode(text) == new
        assert after.decode(new) == before.decode(old)
        if ids.keys() >= {*old}:
            assert new == [ids[index] for index in old]
    assert after.pad_token_id == ids[before.pad_token_id]
    assert after.eos_token_id == ids[before.eos_token_id]
    assert len(after) == json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"]
