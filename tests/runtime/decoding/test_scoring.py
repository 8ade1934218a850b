"""Log-probabilities of texts: windows on a fake decoder, and transformers' own loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gpt2onnx import Model
from gpt2onnx.errors import ParameterError, PromptError, TokenRangeError
from gpt2onnx.runtime.decoding import scoring
from gpt2onnx.runtime.engine.score import score
from tests.checkpoints import END_OF_TEXT_ID
from tests.fake_decoder import FakeDecoder, by_history, by_last_token
from tests.raising import raises

TEXT = "Wer reitet so spät durch Nacht und Wind? "  # 42 bytes, and as many tokens
IDS = np.random.default_rng(1).integers(0, 256, 500)


def test_bits_per_byte(model: Model) -> None:
    result = model.score(TEXT)
    assert result.utf8_bytes == len(TEXT.encode()) == 42
    assert result.bits_per_byte == pytest.approx(-sum(result.logprobs) / math.log(2) / 42)


def test_how_windows_overlap() -> None:
    """Five positions that move on by two: each window but the first sees three tokens again."""
    decoder = FakeDecoder(by_history(12), n_positions=5)
    score(decoder, np.arange(10), stride=2)
    assert decoder.calls == [
        *(("truncate", 0), ("extend", [0, 1, 2, 3, 4])),
        *(("truncate", 0), ("prefill", [2, 3, 4]), ("extend", [5, 6])),
        *(("truncate", 0), ("prefill", [4, 5, 6]), ("extend", [7, 8])),
    ]
    assert decoder.rows == []


def test_logits_of_few_tokens_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = IDS[:40] % 12
    whole = score(FakeDecoder(by_history(12)), ids)
    monkeypatch.setattr(scoring, "CHUNK", 16)
    decoder = FakeDecoder(by_history(12))
    np.testing.assert_array_equal(score(decoder, ids), whole)
    assert [len(ids) for name, ids in decoder.calls if name == "extend"] == [16, 16, 7]


def test_worked_by_hand() -> None:
    decoder = FakeDecoder(by_last_token([[0.25, 0.75], [0.5, 0.5]]))
    expected = np.log([0.75, 0.5, 0.25])
    np.testing.assert_allclose(score(decoder, np.array([0, 1, 0, 0])), expected, rtol=1e-6)


@pytest.mark.parametrize("stride", [-1, 0, 6])
def test_a_stride_out_of_range(stride: int) -> None:
    decoder = FakeDecoder(by_history(12), n_positions=5)
    with raises(ParameterError, parameters={"stride": stride}):
        score(decoder, np.arange(10), stride)
    assert decoder.rows == []


def test_the_row_is_freed_when_the_decoder_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(reads: Any) -> Any:
        raise KeyboardInterrupt

    decoder = FakeDecoder(by_history(12))
    monkeypatch.setattr(decoder, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(decoder, np.arange(10))
    assert decoder.rows == []


@pytest.mark.parametrize("nothing", ["", [], np.array([], np.int64)])
def test_nothing_to_score(model: Model, nothing: Any) -> None:
    for add_bos in (True, False):
        with pytest.raises(PromptError, match="nothing to score: the text is empty"):
            model.score(nothing, add_bos=add_bos)


def test_one_token_without_a_context(model: Model) -> None:
    assert len(model.score("a").logprobs) == 1
    for ids, add_bos in (([97], False), ([END_OF_TEXT_ID], True)):
        with pytest.raises(PromptError, match="nothing to score: one token alone"):
            model.score(ids, add_bos=add_bos)


def test_a_text_that_begins_with_bos_gets_no_other(model: Model) -> None:
    assert model.score([END_OF_TEXT_ID, 5, 6]) == model.score([5, 6])
    assert model.score("<|endoftext|>ab") == model.score("ab")


def test_token_ids_are_checked(model: Model) -> None:
    assert model.score([1, 2, 3]).token_ids == [1, 2, 3]
    with raises(TokenRangeError, found=257, expected=256):
        model.score([1, 257])
    with raises(PromptError, name="prompt"):
        model.score(["one text", "another"])  # type: ignore[list-item]
