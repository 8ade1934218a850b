from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpt2onnx.errors import PromptError
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from gpt2onnx.smaller.distill.corpus import Corpus, Text, end_to_end, of_texts


def corpus(*lengths: int) -> Corpus:
    """0, 1, 2 … to learn from, and documents of these lengths held out."""
    documents = [Text.whole(np.arange(length) + 100 * n) for n, length in enumerate(lengths)]
    return end_to_end([Text.whole(np.arange(50))], documents, 7)


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
    pieces = [piece.ids.tolist() for piece in corpus(6, 1, 3).pieces(2)]
    assert pieces == [[0, 1, 2], [2, 3, 4], [4, 5], [200, 201, 202]]
    assert len(list(corpus(6, 1, 3).pieces(2, most=3))) == 2


def test_batches_are_windows_of_the_stream() -> None:
    batch, learned = corpus(3).batch(np.random.default_rng(0), 40, 8)
    assert batch.shape == (40, 9)
    assert (np.diff(batch) == 1).all()
    assert batch.max() < 50
    assert learned.tolist() == list(range(40 * 8))
    assert np.array_equal(batch, corpus(3).batch(np.random.default_rng(0), 40, 8)[0])


def written(number: int) -> Text:
    """A text of 9 tokens, the first ones given, which are -1 here."""
    given = 1 + number % 3
    ids = np.array([-1] * given + [10 * number + place for place in range(9 - given)])
    return Text(ids, ids != -1)


def test_of_what_a_teacher_wrote_only_that_is_learned() -> None:
    found = end_to_end(map(written, range(1, 5)), [written(1)], 1, 9)
    for window in (8, 20):
        batch, learned = found.batch(np.random.default_rng(0), 30, window)
        assert (batch[:, 0] == -1).all()  # each begins with a text
        assert len(set(batch[:, 8].tolist())) == (4 if window == 8 else 2)
        assert learned.tolist() == np.flatnonzero(batch[:, 1:] != -1).tolist()
    assert [piece.own.tolist() for piece in found.pieces(20)] == [written(1).own.tolist()]


def test_it_is_kept(tmp_path: Path) -> None:
    before = end_to_end([written(1), written(2)], [written(3)], 7, 9)
    before.save(tmp_path / "corpus.npz")
    after = Corpus.load(tmp_path / "corpus.npz")
    for name in ("stream", "learned", "held_out", "judged", "ends"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    assert (after.held_out_bytes, after.stride) == (7, 9)


def test_too_little_text(checkpoint: Path) -> None:
    corpus(3).check(49)
    with pytest.raises(PromptError, match="the 50 of a context, and some held out, found 50 and 3"):
        corpus(3).check(50)
    with pytest.raises(PromptError, match="found 50 and 1; give more"):
        corpus(1).check(10)
    with pytest.raises(PromptError, match="found 0 and 0; give more"):
        of_texts(open_checkpoint(checkpoint).tokenizer, 256, ["", ""], []).check(10)
