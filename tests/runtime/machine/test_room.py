"""A call that memory has no room for is refused before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.errors import Gpt2OnnxError, OutOfMemoryError, ParameterError
from gpt2onnx.runtime.decoder.arena import CacheShape, HostArena
from gpt2onnx.runtime.machine import room as room_module
from gpt2onnx.runtime.machine.room import LITTLE, SEQUENCE, Room
from tests.raising import raises

GB = 10**9


@pytest.fixture
def four_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "available_memory", lambda: 4 * GB)


@pytest.mark.usefixtures("four_gigabytes")
def test_what_fits_and_what_does_not() -> None:
    """GPT-2 124M: 12 layers of 768 keys and values in float32, 50,257 logits."""
    room = Room(12 * 2 * 768 * 4, 50257, 1024)
    each = 1024 * 73728 + 4 * 4 * 50257 + SEQUENCE
    most = 4 * GB // each
    assert most == 52
    room.require(most, 10**9)  # no row is longer than the model's positions
    said = r"^53 sequences of 1,024 tokens want 4\.0 GB .* 4\.0 GB are left .*, enough for 52"
    with pytest.raises(OutOfMemoryError, match=said):
        room.require(most + 1, 1024)
    with raises(OutOfMemoryError, found=10**30 * each, expected=4 * GB):
        room.require(10**30, 1024)


def test_a_little_is_there_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "available_memory", lambda: 0)
    room = Room(0, 0, 1)
    room.require(LITTLE // SEQUENCE, 1)
    with raises(OutOfMemoryError, found=LITTLE + SEQUENCE, expected=0):
        room.require(LITTLE // SEQUENCE + 1, 1)


@pytest.mark.parametrize("total", [None, GB])
def test_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    monkeypatch.setattr(room_module, "available_memory", lambda: None)
    monkeypatch.setattr(room_module, "total_memory", lambda: total)
    room = Room(1000, 0, 1000)
    if total is None:
        room.require(2000, 1000)
    else:
        with raises(OutOfMemoryError, expected=GB):
            room.require(2000, 1000)


SAMPLED: dict[str, Any] = {"do_sample": True}
HUGE = [10**9, 10**18, 10**30, 10**400]


@pytest.mark.parametrize("count", HUGE)
@pytest.mark.parametrize(
    "given",
    [
        {**SAMPLED, "num_return_sequences": 0},
        {**SAMPLED, "best_of": 0},
        {"num_beams": 0},
        {"num_beams": 0, "num_beam_groups": 0, "diversity_penalty": 0.5},
        {"return_alternatives": True, "num_return_sequences": 0},
        {"top_logprobs": 0},
    ],
    ids=str,
)
def test_counts_are_bounded(model: Model, given: dict[str, Any], count: int) -> None:
    parameters = {name: count if value == 0 else value for name, value in given.items()}
    with pytest.raises(Gpt2OnnxError):
        model.generate("hello", **parameters)


@pytest.mark.parametrize("count", HUGE)
def test_what_is_cut_to_what_there_is_may_be_large(model: Model, count: int) -> None:
    """Up to what an integer may be."""
    names = ["max_new_tokens", "prompt_lookup_num_tokens", "no_repeat_ngram_size"]
    for name in names:
        given = {"max_new_tokens": 2, name: count}
        if count < 2**63:
            assert model.generate("hello", **given).token_ids
        else:
            with raises(ParameterError, parameters={name: count}):
                model.generate("hello", **given)


@pytest.mark.parametrize("count", HUGE)
@pytest.mark.parametrize("name", ["window_size", "ngram_size", "guess_set_size"])
def test_lookahead_is_bounded_by_the_positions(
    checkpoint: Path, tmp_path: Path, name: str, count: int
) -> None:
    out = tmp_path / "model"
    gpt2onnx.export(checkpoint, out, precision="fp32", with_attention_bias=True, verify=False)
    with pytest.raises(ParameterError) as raised:
        gpt2onnx.load(out, threads=1).generate("hello", **{f"lookahead_{name}": count})
    assert f"lookahead_{name}" in raised.value.named


def test_ten_million_phrases() -> None:
    with pytest.raises(ParameterError, match="holds 10,000,000 phrases: expected at most 131,072"):
        gpt2onnx.GenerationParams(num_beams=2, force_words_ids=[[1]] * 10**7)


def test_an_arena_that_no_machine_has() -> None:
    shape = CacheShape(1, 2**20, 2**20, 2**20, np.dtype(np.float32))
    for rows in (2**10, 2**40):
        with pytest.raises(OutOfMemoryError, match=r"rows of 1,048,576 tokens: .* take fewer"):
            HostArena(shape, rows, 2**20)
