"""The portable graph beside transformers and beside what Optimum traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from transformers import GPT2LMHeadModel

import gpt2onnx
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from gpt2onnx.export.graph.portable import PRECISIONS
from gpt2onnx.export.quantization.rounding import quantize_blocks
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.portable import PortableDecoder
from gpt2onnx.runtime.ort.session import open_session
from tests.checkpoints import DEFAULTS, make_checkpoint
from tests.export.graph.test_fused import described
from tests.export.graph.test_fused_torch import OPTIONS, some_ids
from tests.export.graph.test_portable import IDS, Float, Ids, export, exported_logits, write
from tests.export.logits import assert_close, load_reference, mean_kl, reference_logits
from tests.export.quantization.test_rounding import dequantize
from tests.export.quantization.test_smoothquant_torch import KL, held_out_ids, outlier_checkpoint


def torch_logits(checkpoint: Path, ids: Ids) -> Float:
    return reference_logits(load_reference(checkpoint), ids)


@pytest.fixture(scope="module")
def fp32(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("fp32") / "out")


@pytest.fixture(scope="module")
def int8(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("int8") / "out", "int8")


@pytest.fixture(scope="module")
def traced(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph that Optimum traces."""
    reason = "Optimum is the reference: pip install 'gpt2onnx[dev]'"
    exporters = pytest.importorskip("optimum.exporters.onnx", reason=reason)
    from optimum.exporters.onnx.model_configs import GPT2OnnxConfig

    model = load_reference(checkpoint)
    path = tmp_path_factory.mktemp("traced") / "model.onnx"
    task = {"task": "text-generation", "use_past": True, "use_past_in_inputs": True}
    exporters.export(model, GPT2OnnxConfig(model.config, **task), path)
    return path


@pytest.mark.parametrize("options", [*OPTIONS.values(), {"n_positions": 1}])
def test_fp32_gives_pytorchs_logits(options: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", **options)
    config = DEFAULTS | options
    ids = some_ids(config["n_positions"], config["vocab_size"])
    found = exported_logits(export(checkpoint, tmp_path / "out"), ids)
    assert_close(found, torch_logits(checkpoint, ids))


@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": False, "n_embd": 36}])
def test_int8_stays_near_pytorchs_logits(options: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", **options)
    found = exported_logits(export(checkpoint, tmp_path / "out", "int8"), IDS)
    assert 0 < mean_kl(torch_logits(checkpoint, IDS), found) < 0.01


@pytest.mark.filterwarnings("ignore")  # torch's, of tracing
def test_the_interface_and_the_logits_are_optimums(fp32: Path, traced: Path) -> None:
    ours, theirs = (onnx.load(path).graph for path in (fp32 / "model.onnx", traced))
    for mine, reference in ((ours.input, theirs.input), (ours.output, theirs.output)):
        expected = {value.name: described(value) for value in reference}
        assert {value.name: described(value) for value in mine} == expected
    np.testing.assert_allclose(
        exported_logits(fp32, IDS), exported_logits(traced.parent, IDS), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_padded_batch_gives_each_rows_own_logits(
    precision: str, side: str, request: pytest.FixtureRequest
) -> None:
    padded_batch_is_right(request.getfixturevalue(precision), precision, side)


def padded_batch_is_right(folder: Path, precision: str, side: str) -> None:
    """Of unequal prompts at once, then of a step for all, which sees what padding left."""
    raw = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    texts = [IDS[:7], IDS[9:12], IDS[20:26]]
    mask = np.zeros((3, 7), np.int64)
    for row, text in zip(mask, texts, strict=True):
        row[slice(-len(text), None) if side == "left" else slice(len(text))] = 1
    ids = np.full((3, 7), 5)
    ids[mask == 1] = np.concatenate(texts)
    empty = np.empty((3, 4, 0, 8), np.float32)
    past = {i.name: empty for i in raw.get_inputs() if i.name.startswith("past")}
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    logits, *present = raw.run(None, feeds | past)
    later = np.concatenate([mask, np.ones((3, 1), np.int64)], axis=1)
    feeds = {"input_ids": np.full((3, 1), 77), "attention_mask": later}
    feeds |= {"position_ids": later.sum(1, keepdims=True) - 1}
    step, *_ = raw.run(None, feeds | dict(zip(past, present, strict=True)))
    for row, text in enumerate(texts):
        expected = exported_logits(folder, np.append(text, 77))
        found = np.concatenate([logits[row][mask[row] == 1], step[row]])
        if precision == "fp32":
            assert_close(found, expected, 1e-5)
        else:  # steps differ from prompts by what products round
            assert mean_kl(expected, found) < 1e-3


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
    assert mean_kl(expected, reads.extend(decoder, decoder.new_row(), ids)) < KL["int8"]


@pytest.mark.parametrize("n_embd", [32, 36])
def test_another_runtime_multiplies_out_what_was_rounded(n_embd: int, tmp_path: Path) -> None:
    """ONNX's own reference, whose products are single precision: weights alone are rounded.

    Attention has no scale, which is one of the queries' weights before these are rounded.
    """
    options = {"n_embd": n_embd, "n_inner": 70, "scale_attn_weights": False}
    checkpoint = make_checkpoint(tmp_path / "checkpoint", **options)
    evaluator = ReferenceEvaluator(str(write(open_checkpoint(checkpoint), tmp_path, "int8")))
    ids, empty = IDS[None, :20], np.empty((1, 4, 0, n_embd // 4), np.float32)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    feeds |= {"position_ids": np.arange(20)[None]}
    past = {name: empty for name in evaluator.input_names if name.startswith("past")}
    logits = evaluator.run(["logits"], feeds | past)[0][0]
    exact = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager")
    rounded = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager")
    with torch.inference_mode():
        for name, parameter in rounded.named_parameters():
            if "wpe" in name:
                parameter.copy_(parameter.half())
            elif parameter.ndim == 2:
                across = parameter.numpy() if "wte" in name else parameter.numpy().T
                kept = dequantize(quantize_blocks(across, 8, 32), 8, across.shape[1])
                parameter.copy_(torch.from_numpy(kept if "wte" in name else kept.T))
        expected, unrounded = (model(torch.from_numpy(ids)).logits[0] for model in (rounded, exact))
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)
    assert np.abs(logits - unrounded.numpy()).max() > 1e-3


@pytest.mark.filterwarnings("ignore")
def test_optimum_writes_what_transformers_writes(checkpoint: Path, fp32: Path) -> None:
    pytest.importorskip("optimum.onnxruntime")
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


@pytest.mark.filterwarnings("ignore")
def test_int8_in_optimums_runtime_gives_the_same_logits(int8: Path) -> None:
    pytest.importorskip("optimum.onnxruntime")
    from optimum.onnxruntime import ORTModelForCausalLM

    ids = torch.from_numpy(IDS[None, :18])
    logits = ORTModelForCausalLM.from_pretrained(int8)(ids, torch.ones_like(ids)).logits[0].numpy()
    np.testing.assert_allclose(exported_logits(int8, IDS)[:18], logits, atol=1e-5, rtol=0)
