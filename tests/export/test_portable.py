"""Graphs that go through Optimum, against transformers and in Optimum's own runtime."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from transformers import GPT2LMHeadModel

import gpt2onnx
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.errors import InstallationError, UnsupportedConfigError
from gpt2onnx.export.checkpoint import open_checkpoint
from gpt2onnx.export.folder import write_settings
from gpt2onnx.export.portable import PRECISIONS, export_portable
from gpt2onnx.export.quantize import quantize_blocks
from gpt2onnx.runtime.portable import PortableDecoder
from gpt2onnx.runtime.session import open_session
from tests.checkpoints import make_checkpoint
from tests.export.logits import mean_kl
from tests.export.test_quantize import dequantize
from tests.export.test_smoothing import KL, held_out_ids, outlier_checkpoint

pytest.importorskip("optimum.exporters.onnx", reason="needs gpt2onnx[optimum]")
IDS = np.random.default_rng(0).integers(0, 257, 28)
Float = NDArray[np.float32]


def export(checkpoint: Path, folder: Path, precision: str = "fp32") -> Path:
    """A model folder without its manifest."""
    folder.mkdir(exist_ok=True)
    opened = open_checkpoint(checkpoint)
    export_portable(opened, opened, folder, precision)
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


def test_int8_holds_with_outliers(tmp_path: Path) -> None:
    ids = held_out_ids()
    outlier_checkpoint.write(open_checkpoint(CHECKPOINT), tmp_path / "outliers")
    folder = gpt2onnx.export(
        tmp_path / "outliers", tmp_path / "out", graph="portable", verify=False
    ).folder
    decoder = PortableDecoder(open_session(folder / "model.onnx", "cpu", threads=1), len(ids))
    model = GPT2LMHeadModel.from_pretrained(CHECKPOINT).float()
    with torch.inference_mode():
        expected = model(torch.from_numpy(ids[None])).logits[0].numpy()
    assert mean_kl(expected, decoder.extend(decoder.new_row(), ids)) < KL["int8"]


@pytest.mark.parametrize("n_embd", [32, 36])
def test_another_runtime_multiplies_out_what_was_rounded(n_embd: int, tmp_path: Path) -> None:
    """ONNX's own reference, whose products are single precision: weights alone are rounded."""
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_embd=n_embd, n_inner=70)
    folder = export(checkpoint, tmp_path / "out", "int8")
    evaluator = ReferenceEvaluator(str(folder / "model.onnx"))
    ids, empty = IDS[None, :20], np.empty((1, 4, 0, n_embd // 4), np.float32)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    feeds |= {"position_ids": np.arange(20)[None]}
    past = {name: empty for name in evaluator.input_names if name.startswith("past")}
    with np.errstate(over="ignore"):  # the traced mask adds the lowest number to itself
        logits = evaluator.run(["logits"], feeds | past)[0][0]
    exact = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager")
    rounded = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager")
    with torch.inference_mode():
        for name, parameter in rounded.named_parameters():
            if parameter.ndim == 2 and "wpe" not in name:
                across = parameter.numpy() if "wte" in name else parameter.numpy().T
                kept = dequantize(quantize_blocks(across, 8, 32), 8, across.shape[1])
                parameter.copy_(torch.from_numpy(kept if "wte" in name else kept.T))
        expected, unrounded = (model(torch.from_numpy(ids)).logits[0] for model in (rounded, exact))
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)
    assert np.abs(logits - unrounded.numpy()).max() > 1e-3


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
    folder = export(checkpoint, tmp_path / "out", "int8")
    layer = [(32, 32), (32, 96), (32, 128), (128, 32)]
    assert matrices(folder, "int8") == sorted([*layer, (32, 257), (257, 32)])
    scales = [(1, 32), (1, 96), (1, 128), (4, 32), (1, 257), (257, 1)]
    assert matrices(folder, "float32") == sorted([(64, 32), *scales])


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


def test_large_weights_go_to_one_file_beside_the_graph(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")  # what Optimum does beyond 2 GB
    folder = tmp_path / "out"
    folder.mkdir()
    opened = open_checkpoint(checkpoint)
    export_portable(opened, opened, folder, "fp32")
    graph, data = sorted(folder.iterdir())
    assert graph.name == "model.onnx"
    assert 0.9 < data.stat().st_size / 140_000 < 1  # a head of its own would be 33,000 more
    exported_logits(folder, 64)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_is_said(
    precision: str, checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = logging.root.handlers.copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export(checkpoint, tmp_path, precision)
    assert not caught
    assert capfd.readouterr() == ("", "")
    assert logging.root.handlers == handlers
    assert logging.root.manager.disable == logging.NOTSET


def test_other_precisions_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedConfigError, match="'int4': through Optimum there are fp32 and"):
        export(checkpoint, tmp_path, "int4")
    assert not any(tmp_path.iterdir())


def test_too_few_positions_are_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_positions=3)
    with pytest.raises(UnsupportedConfigError, match="n_positions 3 is too small to be traced"):
        export(checkpoint, tmp_path, "fp32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_missing_package_is_named(
    precision: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optimum.exporters.onnx", None)
    with pytest.raises(InstallationError, match=r"optimum.*pip install 'gpt2onnx\[optimum\]'"):
        export(checkpoint, tmp_path, precision)
    assert logging.root.manager.disable == logging.NOTSET
