"""Graphs in standard operators: against transformers, Optimum's own and ONNX's reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

import gpt2onnx
from gpt2onnx.errors import ParameterError
from gpt2onnx.export.checkpoint.checkpoint import Weights
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.graph.fused import build
from gpt2onnx.export.graph.optimum_interface import DATA
from gpt2onnx.export.graph.portable import PRECISIONS, choose_portable, portable_decoder
from gpt2onnx.export.writing.onnx_builder import GraphBuilder
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.portable import PortableDecoder
from gpt2onnx.runtime.ort import session_options
from gpt2onnx.runtime.ort.session import open_session
from tests.checkpoints import DEFAULTS, make_checkpoint
from tests.export.graph.test_fused import CountingCheckpoint

IDS = np.random.default_rng(0).integers(0, 257, 28)
Float = NDArray[np.float32]
Ids = NDArray[np.int64]


def export(checkpoint: Path, folder: Path, precision: str = "fp32") -> Path:
    options = {"precision": precision, "graph": "portable", "verify": False}
    return gpt2onnx.export(checkpoint, folder, **options).folder


def write(weights: Weights, folder: Path, precision: str) -> Path:
    """The graph of these weights, rounded as they are."""
    kind = portable_decoder(precision)
    with (folder / DATA).open("wb") as data:
        op = GraphBuilder(data, DATA, kind.opset)
        model = build(weights, choose_portable(precision), op, kind=kind)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def exported_logits(folder: Path, ids: Ids) -> Float:
    """Logits [length, vocab]: of a prompt at once, then of one cached step a token."""
    decoder = PortableDecoder(open_session(folder / "model.onnx", "cpu", threads=1), len(ids))
    row = decoder.new_row()
    prompt = max(1, len(ids) * 2 // 3)
    logits = [reads.extend(decoder, row, ids[:prompt])]
    logits += [reads.step(decoder, [row], token[None]) for token in ids[prompt:]]
    return np.concatenate(logits)


def tensors(folder: Path) -> dict[str, Float]:
    model = onnx.load(folder / "model.onnx")
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def sizes(folder: Path) -> list[int]:
    """Bytes of the matrices, each once."""
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    places = [
        {p.key: int(p.value) for p in t.external_data if p.key != "location"}
        for t in graph.initializer
    ]
    return sorted({place["offset"]: place["length"] for place in places if place}.values())


@pytest.fixture(scope="module")
def fp32(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("fp32") / "out")


@pytest.fixture(scope="module")
def int8(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("int8") / "out", "int8")


def test_the_same_checkpoint_gives_the_same_bytes(
    checkpoint: Path, int8: Path, tmp_path: Path
) -> None:
    again = export(checkpoint, tmp_path / "out", "int8")
    for name in ("model.onnx", "model.onnx_data"):
        assert (again / name).read_bytes() == (int8 / name).read_bytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_stream_through(tmp_path: Path, precision: str) -> None:
    weights = CountingCheckpoint(Gpt2Config.from_json({**DEFAULTS, "n_layer": 5, "n_embd": 20}))
    write(weights, tmp_path, precision)
    assert weights.most == 2  # a matrix and its bias


def test_int8_runs_where_unsigned_weights_are_asked_for(
    int8: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on processors whose products of 8 bits saturate."""
    expected = exported_logits(int8, IDS)
    settings = {"session.x64quantprecision": "1"}
    monkeypatch.setattr(session_options, "packing_settings", lambda: settings)
    np.testing.assert_array_equal(exported_logits(int8, IDS), expected)


def test_onnx_runtime_fuses_every_product(int8: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "d")
    onnxruntime.InferenceSession(int8 / "model.onnx", options, ["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimised.onnx", load_external_data=False).graph.node
    fused = [node for node in nodes if node.op_type == "MatMulNBits"]
    assert len(fused) == 2 * 4 + 1


@pytest.mark.parametrize("tied", [True, False])
def test_int8_takes_a_byte_a_weight(tied: bool, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_layer=1, tie_word_embeddings=tied)
    layer = [32 * 32, 32 * 96, 32 * 128, 128 * 32]
    tables = [257 * 32, 257 * 32]
    scales = [*(4 * size // 32 for size in (*layer, 257 * 32)), 2 * 257]  # half for rows alone
    expected = sorted([*layer, *tables, *scales, 2 * 64 * 32])
    assert sizes(export(checkpoint, tmp_path / "out", "int8")) == expected


@pytest.mark.parametrize("precision", PRECISIONS)
def test_operators_are_standard_ones(precision: str, request: pytest.FixtureRequest) -> None:
    model = onnx.load(request.getfixturevalue(precision) / "model.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert [opset.domain for opset in model.opset_import] == [""]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_onnx_finds_no_fault(precision: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(precision) / "model.onnx"
    onnx.checker.check_model(path, full_check=True)


def test_a_tied_head_is_stored_once(fp32: Path) -> None:
    assert [value.shape for value in tensors(fp32).values() if 257 in value.shape] == [(257, 32)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int4"}, "the portable graph has fp32, int8; graph='fused' has them all"),
        ({"device": "cuda"}, "the portable graph is the same for every device; leave it out"),
        ({"with_hidden_states": True}, "the portable graph can't give hidden states; use"),
        ({"with_attention_bias": True}, "the portable graph can't be told what each token sees"),
    ],
)
def test_what_it_has_not_is_refused(
    options: dict[str, Any], said: str, checkpoint: Path, tmp_path: Path
) -> None:
    options = {"precision": "fp32"} | options
    with pytest.raises(ParameterError, match=said):
        gpt2onnx.export(checkpoint, tmp_path / "out", graph="portable", **options)
    assert not any(tmp_path.iterdir())
