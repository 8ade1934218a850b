"""What the graph for CUDA has beside the plain one, run on the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.export.graph.cuda_graph import ALIGNMENT, TOP
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.protocol import Read, Result
from tests.checkpoints import make_checkpoint
from tests.fake_decoder import largest

PRECISIONS = ("fp32", "fp16", "int8", "int4")
LAYERS = 2
IDS = np.random.default_rng(4).integers(0, 257, 40)
PROMPTS = [IDS[:5].tolist(), IDS[5:17].tolist(), IDS[17:].tolist()]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a checkpoint with `options`, made for CUDA."""

    @cache
    def get(precision: str, **options: Any) -> Path:
        checkpoint = make_checkpoint(tmp_path_factory.mktemp("checkpoint"), **options)
        out = tmp_path_factory.mktemp("models") / "model"
        return gpt2onnx.export(
            checkpoint, out, precision=precision, device="cuda", verify=False
        ).folder

    return get


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_largest_logits_are_those_of_all(exported: Callable[..., Path], precision: str) -> None:
    decoder = gpt2onnx.load(exported(precision), "cpu").decoder
    rows, others = [[decoder.new_row() for _ in PROMPTS] for _ in range(2)]
    for row, other, prompt in zip(rows, others, PROMPTS, strict=True):
        reads.prefill(decoder, row, np.array(prompt))
        reads.prefill(decoder, other, np.array(prompt))
    for step in range(3):
        ids = IDS[step : step + len(rows)]
        found, expected = (
            reads.step_largest(decoder, rows, ids),
            largest(reads.step(decoder, others, ids), TOP),
        )
        np.testing.assert_array_equal(found[0], expected.ids)
        np.testing.assert_array_equal(found[1], expected.logits)
        np.testing.assert_allclose(found[2], expected.logprobs, atol=1e-5)


@pytest.mark.parametrize("vocab_size", [257, 264, 301])
def test_tables_are_filled_up_and_logits_cut(
    exported: Callable[..., Path], vocab_size: int
) -> None:
    folder = exported("fp16", vocab_size=vocab_size)
    graph = onnx.load(folder / "model.onnx").graph
    (table,) = (tensor for tensor in graph.initializer if tensor.name == "wte.weight")
    assert table.dims[0] % ALIGNMENT == 0
    assert 0 <= table.dims[0] - vocab_size < ALIGNMENT
    decoder = gpt2onnx.load(folder, "cpu").decoder
    assert (decoder.vocab_size, decoder.top) == (vocab_size, TOP)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_the_residual_stream_is_one_operator_a_branch(
    exported: Callable[..., Path], precision: str, activation: str
) -> None:
    folder = exported(precision, activation_function=activation, n_layer=LAYERS)
    nodes = onnx.load(folder / "model.onnx").graph.node
    count = Counter(node.op_type for node in nodes)
    assert count["SkipLayerNormalization"] == 2 * LAYERS
    assert count["LayerNormalization"] == 1
    gemm = precision in ("fp32", "fp16")  # which adds c_attn's bias itself, and relu's
    biases = 0 if gemm else 1 + (activation == "relu")
    others = 2 if precision == "fp32" else 1  # tokens and positions; the cache's new length
    assert count["Add"] == others + LAYERS * biases


def test_single_precision_appends_to_the_cache_in_place(exported: Callable[..., Path]) -> None:
    graph = onnx.load(exported("fp32", n_layer=LAYERS) / "model.onnx").graph
    scattered = [node for node in graph.node if node.op_type == "TensorScatter"]
    names = [f"{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
    assert [node.input[0] for node in scattered] == [f"past_key_values.{name}" for name in names]
    assert [node.output[0] for node in scattered] == [f"present.{name}" for name in names]
    attention = [node for node in graph.node if node.op_type == "Attention"]
    assert [list(node.input[1:3]) for node in attention] == [
        [f"present.{layer}.key", f"present.{layer}.value"] for layer in range(LAYERS)
    ]


@pytest.fixture(scope="module")
def model(exported: Callable[..., Path]) -> Model:
    return gpt2onnx.load(exported("fp16"), "cpu")


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_new_tokens": 20},
        {"max_new_tokens": 20, "do_sample": True, "seed": 5, "temperature": 1.3, "top_p": 0.9},
        {"max_new_tokens": 20, "do_sample": True, "seed": 6, "top_k": 5, "num_return_sequences": 3},
    ],
    ids=str,
)
def test_a_model_writes_the_same_by_the_largest_logits(
    model: Model, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any]
) -> None:
    decoder: Any = model.decoder
    asked: list[int] = []
    read = decoder.read

    def noted(reads: Sequence[Read]) -> list[Result]:
        results: list[Result] = read(reads)
        asked.append(sum(bool(result.top_logits) for result in results))
        return results

    monkeypatch.setattr(decoder, "read", noted)
    found = model.generate(PROMPTS, **parameters)
    assert any(asked)
    monkeypatch.setattr(decoder, "top", 0)
    expected = model.generate(PROMPTS, **parameters)
    for ours, theirs in zip(np.ravel(found), np.ravel(expected), strict=True):
        assert ours.token_ids == theirs.token_ids
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-4)


@pytest.mark.parametrize("asked", [{"top_logprobs": 2}, {"entropies": True}], ids=str)
def test_what_shows_all_logits_gets_them(
    model: Model, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setattr(model.decoder, "_step_largest", None)
    tokens = list(model.stream(PROMPTS[0], max_new_tokens=5, **asked))
    assert len(tokens) == 5
    if "top_logprobs" in asked:
        assert all(token.alternatives[0].id == token.id for token in tokens)
    else:
        assert all(token.entropy is not None and token.entropy > 0 for token in tokens)
