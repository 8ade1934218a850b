from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpt2onnx.errors import PromptError
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from gpt2onnx.smaller.distill.corpus import Corpus, of_ids, of_texts


def corpus(*lengths: int) -> Corpus:
    """0, 1, 2 … to learn from, and documents of these lengths held out."""
    documents = [np.arange(length) + 100 * n for n, length in enumerate(lengths)]
    return of_ids([np.arange(50)], documents, 7)


def test_the_end_of_the_texts_is_held_out(checkpoint: Path) -> None:
    tokenizer = open_checkpoint(checkpoint).tokenizer
    found = of_texts(tokenizer, 256, ["é" * 150, "b" * 47, "xyz"], [])
    ids = tokenizer.encode
    assert found.stream.tolist() == [256, *ids("é" * 150).ids, 256, *ids("b" * 40).ids]
    assert found.held_out.tolist() == [256, *ids("b" * 7).ids, 256, *ids("xyz").ids]
    assert found.ends.tolist() == [8, 12]
    assert found.held_out_bytes == 10


def test_a_text_of_its_own_is_held_out(checkpoint: Path) -> None:
    tokenizer = open_checkpoint(checkpoint).tokenizer
    found = of_texts(tokenizer, None, ["abc"], ["é", ""])
    assert found.stream.tolist() == tokenizer.encode("abc").ids
    assert found.held_out.tolist() == tokenizer.encode("é").ids
    assert found.held_out_bytes == 2


def test_every_token_but_a_document_s_first_is_predicted_once() -> None:
    pieces = [piece.tolist() for piece in corpus(6, 1, 3).pieces(2)]
    assert pieces == [[0, 1, 2], [2, 3, 4], [4, 5], [200, 201, 202]]
    assert len(list(corpus(6, 1, 3).pieces(2, most=3))) == 2


def test_batches_are_windows_of_the_stream() -> None:
    batch = corpus(3).batch(np.random.default_rng(0), 40, 8)
    assert batch.shape == (40, 9)
    assert (np.diff(batch) == 1).all()
    assert batch.max() < 50
    assert np.array_equal(batch, corpus(3).batch(np.random.default_rng(0), 40, 8))


def test_of_what_a_teacher_wrote_only_that_is_learned() -> None:
    texts = [np.array([-1, -1, -1, *range(10 * n, 10 * n + 6)]) for n in range(1, 5)]
    found = replace(of_ids(texts, [np.arange(3)], 1), stride=9, given=3)
    for window in (8, 20):
        batch = found.batch(np.random.default_rng(0), 30, window)
        assert (batch[:, 0] == -1).all()
        assert (batch[:, 3] % 10 == 0).all()
        assert set(batch[:, 3].tolist()) == ({10, 20, 30, 40} if window == 8 else {10, 20})
        predicted = batch[:, 1:].ravel()
        learned = found.learned(30, window)
        assert sorted(learned) == np.flatnonzero(predicted != -1).tolist()
    assert of_ids([np.arange(50)], [], 1).learned(2, 3).tolist() == [0, 1, 2, 3, 4, 5]


def test_it_is_kept(tmp_path: Path) -> None:
    before = replace(corpus(6, 3), stride=5, given=2)
    before.save(tmp_path / "corpus.npz")
    after = Corpus.load(tmp_path / "corpus.npz")
    for name in ("stream", "held_out", "ends"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    assert (after.held_out_bytes, after.stride, after.given) == (7, 5, 2)


def test_too_little_text(checkpoint: Path) -> None:
    corpus(3).check(49)
    with pytest.raises(PromptError, match="the 50 of a context, and some held out, found 50 and 3"):
        corpus(3).check(50)
    with pytest.raises(PromptError, match="found 50 and 1; give more"):
        corpus(1).check(10)
    with pytest.raises(PromptError, match="found 0 and 0; give more"):
        of_texts(open_checkpoint(checkpoint).tokenizer, 256, ["", ""], []).check(10)
