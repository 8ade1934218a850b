"""Graphs that go through Optimum, against transformers and in Optimum's own runtime."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel

from gpt2onnx.errors import InstallationError, UnsupportedConfigError
from gpt2onnx.export.checkpoint import open_checkpoint
from gpt2onnx.export.folder import write_settings
from gpt2onnx.export.portable import PRECISIONS, export_portable
from gpt2onnx.runtime.portable import PortableDecoder
from gpt2onnx.runtime.session import open_session
from tests.checkpoints import make_checkpoint

pytest.importorskip("optimum.exporters.onnx", reason="needs gpt2onnx[optimum]")
IDS = np.random.default_rng(0).integers(0, 257, 28)
Float = NDArray[np.float32]


def export(checkpoint: Path, folder: Path, precision: str = "fp32") -> Path:
    """A model folder without its manifest."""
    folder.mkdir(exist_ok=True)
    opened = open_checkpoint(checkpoint)
    export_portable(opened, folder, precision)
    write_settings(opened, folder)
    return folder


def exported_logits(folder: Path, n_positions: int) -> Float:
    """Logits [length, vocab]: of a prompt at once, then of one cached step a token."""
    decoder = PortableDecoder(open_session(folder / "model.onnx", "cpu", threads=1), n_positions)
    row, ids = decoder.new_row(), IDS[:n_positions]
    prompt = len(ids) * 2 // 3
    logits = [decoder.extend(row, ids[:prompt])]
    logits += [decoder.step([row], token[None]) for token in ids[prompt:]]
    return np.concatenate(logits)


def torch_logits(checkpoint: Path, n_positions: int) -> Float:
    model = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager").float()
    with torch.inference_mode():
        logits: Float = model(torch.from_numpy(IDS[None, :n_positions])).logits[0].numpy()
    return logits


def tensors(folder: Path) -> dict[str, Float]:
    model = onnx.load(folder / "model.onnx")
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def matrices(folder: Path, dtype: str) -> list[tuple[int, ...]]:
    """The shapes of the matrices that are stored in a type."""
    stored = tensors(folder).values()
    return sorted(value.shape for value in stored if value.ndim == 2 and value.dtype == dtype)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def fp32(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("fp32"))


@pytest.fixture(scope="module")
def int8(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("int8"), "int8")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
        {"tie_word_embeddings": False, "n_inner": 50, "activation_function": "relu"},
        {"n_positions": 4, "use_cache": False},
        {"dtype": "bfloat16", "format": "sharded"},
    ],
)
def test_fp32_gives_pytorchs_logits(options: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", **options)
    positions = options.get("n_positions", 64)
    logits = exported_logits(export(checkpoint, tmp_path / "out"), positions)
    expected = torch_logits(checkpoint, positions)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


def test_int8_stays_near_pytorchs_logits(checkpoint: Path, int8: Path) -> None:
    reference = torch.from_numpy(torch_logits(checkpoint, 64)).log_softmax(-1)
    candidate = torch.from_numpy(exported_logits(int8, 64)).log_softmax(-1)
    kl = torch.nn.functional.kl_div(candidate, reference, reduction="batchmean", log_target=True)
    assert 0 < kl < 0.01


@pytest.mark.parametrize("tied", [True, False])
def test_int8_takes_a_byte_a_weight(tied: bool, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_layer=1, tie_word_embeddings=tied)
    folder = export(checkpoint, tmp_path / "out", "int8")
    layer = [(32, 32), (32, 96), (32, 128), (128, 32)]
    assert matrices(folder, "int8") == sorted([*layer, (32, 257)])
    assert matrices(folder, "uint8") == [(257, 32)]
    assert matrices(folder, "float32") == [(64, 32)]


def test_int8_scales_every_column_to_seven_bits(int8: Path) -> None:
    stored = tensors(int8)
    scales = [value.size for name, value in stored.items() if name.endswith("_scale")]
    assert sorted(scales) == sorted([*(columns for _, columns in matrices(int8, "int8")), 1])
    for value in stored.values():
        if value.dtype == np.int8 and value.ndim == 2:
            np.testing.assert_array_equal(np.abs(value.astype(int)).max(axis=0), 64)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_operators_are_standard_ones(precision: str, request: pytest.FixtureRequest) -> None:
    model = onnx.load(request.getfixturevalue(precision) / "model.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert [opset.domain for opset in model.opset_import] == [""]


def test_a_tied_head_is_stored_once(fp32: Path) -> None:
    assert [value.shape for value in tensors(fp32).values() if 257 in value.shape] == [(257, 32)]


def test_optimum_writes_what_transformers_writes(checkpoint: Path, fp32: Path) -> None:
    from optimum.onnxruntime import ORTModelForCausalLM

    prompts = torch.from_numpy(IDS[:18].reshape(2, 9))
    options = {
        "attention_mask": torch.ones_like(prompts),
        "do_sample": False,
        "max_new_tokens": 24,
        "min_new_tokens": 24,
        "pad_token_id": 0,
    }
    expected = GPT2LMHeadModel.from_pretrained(checkpoint).generate(prompts, **options)
    assert torch.equal(
        ORTModelForCausalLM.from_pretrained(fp32).generate(prompts, **options), expected
    )


def test_int8_in_optimums_runtime_gives_the_same_logits(int8: Path) -> None:
    from optimum.onnxruntime import ORTModelForCausalLM

    ids = torch.from_numpy(IDS[None, :18])
    logits = ORTModelForCausalLM.from_pretrained(int8)(ids, torch.ones_like(ids)).logits[0].numpy()
    np.testing.assert_allclose(exported_logits(int8, 64)[:18], logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("precision", "size"), [("fp32", 140_000), ("int8", 54_000)])
def test_large_weights_go_to_one_file_beside_the_graph(
    precision: str,
    size: int,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")  # what Optimum does beyond 2 GB
    folder = tmp_path / "out"
    folder.mkdir()
    export_portable(open_checkpoint(checkpoint), folder, precision)
    graph, data = sorted(folder.iterdir())
    assert graph.name == "model.onnx"
    assert 0.9 < data.stat().st_size / size < 1  # a head of its own would be 33,000 more
    exported_logits(folder, 64)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_is_said(
    precision: str, checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = logging.root.handlers.copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export_portable(open_checkpoint(checkpoint), tmp_path, precision)
    assert not caught
    assert capfd.readouterr() == ("", "")
    assert logging.root.handlers == handlers
    assert logging.root.manager.disable == logging.NOTSET


def test_other_precisions_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedConfigError, match="'int4': through Optimum there are fp32 and"):
        export_portable(open_checkpoint(checkpoint), tmp_path, "int4")
    assert not any(tmp_path.iterdir())


def test_too_few_positions_are_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_positions=3)
    with pytest.raises(UnsupportedConfigError, match="n_positions 3 is too small to be traced"):
        export_portable(open_checkpoint(checkpoint), tmp_path, "fp32")


@pytest.mark.parametrize(
    ("module", "extra"),
    [("optimum.exporters.onnx", "optimum"), ("onnxruntime.quantization", "cpu")],
)
def test_a_missing_package_is_named(
    module: str,
    extra: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InstallationError, match=rf"{module}.*pip install 'gpt2onnx\[{extra}\]'"):
        export_portable(open_checkpoint(checkpoint), tmp_path, "fp32")
    assert logging.root.manager.disable == logging.NOTSET
