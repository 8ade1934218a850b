"""Drafts that are written in one run: the tokens that reading one by one gives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt2onnx
from gpt2onnx.errors import (
    CacheFullError,
    CorruptModelError,
    ModelFolderError,
    VerificationError,
)
from gpt2onnx.export.graph import draft as draft_graph
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.flat import FlatDecoder
from gpt2onnx.runtime.decoder.protocol import EVERY, Ids, Read
from gpt2onnx.runtime.decoding.drafters import DraftModel
from gpt2onnx.runtime.decoding.sequence import TokenSequence
from gpt2onnx.runtime.folder.manifest import MANIFEST
from gpt2onnx.runtime.folder.model_folder import DRAFT_GRAPH, KERNELS_GRAPH
from gpt2onnx.samplers import GenerationParams
from tests.checkpoints import make_checkpoint
from tests.raising import raises

IDS = np.random.default_rng(0).integers(0, 257, 40)
KINDS = ["fp32 float", "fp32 float16", "fp32 int8", "int8 float", "int8 int8", "int4 float"]
KINDS += ["int8 float16", "int4 float16"]


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FlatDecoder]:
    """One checkpoint in every precision and cache, with all that a graph may have."""
    place = tmp_path_factory.mktemp("drafts")
    checkpoint = make_checkpoint(place / "checkpoint", n_embd=64)
    extras = {"with_hidden_states": True, "with_attention_bias": True, "verify": False}
    opened = {}
    for kind in KINDS:
        precision, cache = kind.split()
        made = gpt2onnx.export(
            checkpoint, place / kind, precision=precision, kv_cache=cache, **extras
        )
        opened[kind] = gpt2onnx.load(made.folder, provider="cpu", graph="kernels").decoder
    return opened


def one_by_one(decoder: FlatDecoder, row: Any, ids: Ids, count: int) -> tuple[list[int], Any]:
    """The most probable tokens, read one by one, and the largest logits behind each."""
    tokens: list[int] = []
    tops = []
    for _ in range(count):
        (result,) = decoder.read([Read(row, ids, needs=1, temperature=1.0)])
        tops.append(result.top_logits[-1])
        tokens.append(int(tops[-1].ids[0]))
        ids = np.array(tokens[-1:])
    return tokens, tops


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_writes_what_steps_write(kind: str, decoders: dict[str, FlatDecoder]) -> None:
    decoder = decoders[kind]
    rows = [decoder.new_row() for _ in range(3)]
    for row in rows:
        reads.prefill(decoder, row, IDS[:20])
    expected, _ = one_by_one(decoder, rows[0], IDS[20:23], 9)
    assert decoder.writer
    assert decoder.writer.write(rows[1], IDS[20:23], 9, 0.0).tolist() == expected
    assert rows[1].length == rows[0].length == 20 + 3 + 8
    # The caches have the same bits, and the row beside them was left alone.
    behind = [decoder.read([Read(row, IDS[:2], EVERY)])[0].logits.tobytes() for row in rows[:2]]
    assert behind[0] == behind[1]
    again, _ = one_by_one(decoder, rows[2], IDS[20:23], 9)
    assert again == expected
    for row in rows:
        decoder.free(row)


@settings(max_examples=40, deadline=None)
@given(
    place=st.integers(0, 8),
    apart=st.sampled_from([1e-3, -1e-3]),
    count=st.integers(1, 9),
    held=st.integers(0, 30),
)
def test_it_ends_before_a_token_that_is_not_sure(
    decoders: dict[str, FlatDecoder], place: int, apart: float, count: int, held: int
) -> None:
    decoder = decoders["fp32 float"]
    rows = [decoder.new_row() for _ in range(2)]
    for row in rows[: 2 if held else 0]:
        reads.prefill(decoder, row, IDS[:held])
    tokens, tops = one_by_one(decoder, rows[0], IDS[held : held + 2], count)
    logprobs = [float(top.logprobs[0]) for top in tops]
    confidence = float(np.exp(logprobs[min(place, count - 1)] + apart))
    sure = [logprob >= np.log(confidence) for logprob in logprobs]
    ends = sure.index(False) if False in sure else count
    assert decoder.writer
    found = decoder.writer.write(rows[1], IDS[held : held + 2], count, confidence)
    assert found.tolist() == tokens[:ends]
    assert rows[1].length == held + 2 + min(ends, count - 1)
    for row in rows:
        decoder.free(row)


def test_a_row_without_room_stays_as_it_is(decoders: dict[str, FlatDecoder]) -> None:
    decoder = decoders["fp32 float"]
    row = decoder.new_row()
    reads.prefill(decoder, row, IDS)
    assert decoder.writer
    room = decoder.n_positions - len(IDS)
    with pytest.raises(CacheFullError):
        decoder.writer.write(row, IDS[:2], room, 0.0)
    assert row.length == len(IDS)
    assert len(decoder.writer.write(row, IDS[:2], room - 1, 0.0)) == room - 1
    assert row.length == decoder.n_positions
    decoder.free(row)


def test_a_graph_that_is_no_loop_is_refused_and_leaves_the_row_as_it_is(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    folder = gpt2onnx.export(checkpoint, tmp_path / "model", precision="int8", verify=False).folder
    other = make_checkpoint(tmp_path / "deeper", n_layer=3)
    deeper = gpt2onnx.export(other, tmp_path / "other", precision="int8", verify=False).folder
    (folder / MANIFEST).unlink()
    for graph, said in (
        (folder / KERNELS_GRAPH, "expected length, row, count, least, too"),
        (folder / "model.onnx", "expected length, row, count, least, too"),
        (folder / "config.json", "is damaged"),
        (deeper / DRAFT_GRAPH, "cache isn't that of"),
    ):
        shutil.copy(graph, folder / DRAFT_GRAPH)
        shutil.copy(deeper / "model.onnx.data", folder)
        decoder = gpt2onnx.load(folder, provider="cpu", graph="kernels").decoder
        row = decoder.new_row()
        assert decoder.writer
        with pytest.raises(ModelFolderError, match=said) as raised:
            decoder.writer.write(row, IDS[:2], 3, 0.0)
        assert raised.value.path == folder / DRAFT_GRAPH
        assert row.length == 0


def exported_with(
    change: Callable[[onnx.ModelProto], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export, verified, whose draft graph's bytes are what `change` makes of it."""
    build = draft_graph.build

    def changed(kernels: onnx.ModelProto) -> Any:
        return SimpleNamespace(SerializeToString=lambda: change(build(kernels)))

    monkeypatch.setattr(draft_graph, "build", changed)
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    gpt2onnx.export(checkpoint, tmp_path / "model", precision="int8", verify=True)


# A node of a turn, by what it gives, and what it reads in place of the right thing.
WRONG = {
    "slots": ["zero", "offsets"],
    "rows": ["zero", "n"],
    "logits_index": ["n", "n"],
    "logprob": ["top_logits", "zero"],
    "are_sure": ["least", "logprob"],
}


@pytest.mark.parametrize("given", WRONG)
def test_an_export_verifies_the_loop(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rewired(model: onnx.ModelProto) -> bytes:
        body = model.graph.node[0].attribute[0].g
        (node,) = [node for node in body.node if given in node.output]
        node.input[:] = WRONG[given]
        return model.SerializeToString()

    with raises(VerificationError, name=DRAFT_GRAPH):
        exported_with(rewired, tmp_path, monkeypatch)
    assert not (tmp_path / "model").exists()


def test_an_export_with_a_damaged_loop_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CorruptModelError, match=r"model\.draft\.onnx is damaged"):
        exported_with(lambda model: model.SerializeToString()[:-9], tmp_path, monkeypatch)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("end", [None, 2])
def test_a_draft_in_one_run_is_the_same_draft(
    decoders: dict[str, FlatDecoder], end: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoders["int8 float"]
    expected, one_run = DraftModel(decoder), DraftModel(decoder)
    params = GenerationParams(max_new_tokens=30)
    sequence = TokenSequence(0, IDS, params)
    found = one_run.draft(sequence, 8)
    if end is not None:
        params = GenerationParams(max_new_tokens=30, eos_token_id=int(found[end]))
        sequence = TokenSequence(0, IDS, params)
        one_run.release(sequence)
        found = one_run.draft(sequence, 8)
    monkeypatch.setattr(decoder, "writer", None)
    assert found.tolist() == expected.draft(sequence, 8).tolist()
    assert end is None or found[-1] == params.eos_token_ids[0]
    expected.release(sequence)
    one_run.release(sequence)


def test_a_prompt_longer_than_a_chunk(
    tmp_path: Path, decoders: dict[str, FlatDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_positions=600)
    folder = gpt2onnx.export(checkpoint, tmp_path / "model", precision="int8", verify=False).folder
    models = [gpt2onnx.load(folder, provider="cpu", graph="kernels") for _ in range(2)]
    prompt = np.random.default_rng(1).integers(0, 257, 560).tolist()
    given: dict[str, Any] = {"max_new_tokens": 20, "eos_token_id": ()}
    alone = models[0].generate(prompt, **given)
    drafted = models[0].generate(prompt, draft=models[1], **given)
    assert drafted.token_ids == alone.token_ids
    assert drafted.speculation
    assert drafted.speculation.acceptance_rate == 1
    monkeypatch.setattr(models[1].decoder, "writer", None)
    assert models[0].generate(prompt, draft=models[1], **given).speculation == drafted.speculation
