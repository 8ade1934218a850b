"""The graph in the kernels' operators, as it is written; kernels/tests run it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import onnx
import pytest

from gpt2onnx.export.checkpoint import config
from gpt2onnx.export.exporter import export
from gpt2onnx.export.graph import kernels as kernels_graph
from gpt2onnx.runtime.ort import kernels
from gpt2onnx.samplers import cumulative
from tests.checkpoints import make_checkpoint


def test_what_others_know_of_it_is_the_same() -> None:
    assert (kernels_graph.DOMAIN, kernels_graph.VERSION) == (kernels.DOMAIN, kernels.VERSION)
    assert kernels_graph.BLOCK == cumulative.BLOCK


def test_every_activation_has_a_name() -> None:
    assert set(kernels_graph.ACTIVATIONS) == set(config.ACTIVATIONS)


OWN = ("directions_q", "directions_scales", "corrections_q", "corrections_scales")


@pytest.mark.parametrize("precision", kernels_graph.PRECISIONS)
def test_its_matrices_are_the_fused_graphs(precision: str, models: Callable[[str], Path]) -> None:
    folder = models(precision)
    fused, flat = (
        onnx.load(folder / name, load_external_data=False)
        for name in ("model.onnx", "model.kernels.onnx")
    )
    nodes = Counter(node.op_type for node in flat.graph.node)
    assert nodes == {"Embed": 1, "Attention": 2, "Linear": 4 * 2 + 1, "TopLogits": 1}
    there = {tensor.name: tensor for tensor in fused.graph.initializer}
    own = [tensor for tensor in flat.graph.initializer if tensor.name not in there]
    assert all(tensor == there.get(tensor.name, tensor) for tensor in flat.graph.initializer)
    assert len(own) == {"fp32": 0, "int8": 4 * 4, "int4": 4 * 2}[precision] * 2
    assert all(name in tensor.name for tensor, name in zip(own, cycle(OWN), strict=False))
    external = [t for t in flat.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert external
    assert {opset.domain for opset in flat.opset_import} == {"", kernels_graph.DOMAIN}


@pytest.mark.parametrize(("kv_cache", "bits"), [("auto", 4), ("int8", 8)])
def test_attention_has_8_bits_beside_a_cache_that_rounds_each_channel(
    tmp_path: Path, kv_cache: str, bits: int
) -> None:
    """Rounding among outputs knows nothing of their scales: perplexity once went from 29 to 231."""
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    export(checkpoint, tmp_path / "model", precision="int4", kv_cache=kv_cache, verify=False)
    graph = onnx.load(tmp_path / "model" / "model.kernels.onnx", load_external_data=False).graph
    rounded = {tensor.name for tensor in graph.initializer if ".weight_q" in tensor.name}
    for matrix in ("c_attn", "c_proj"):
        assert f"h.1.attn.{matrix}.weight_q{bits}" in rounded
    assert {"h.1.mlp.c_fc.weight_q4", "h.1.mlp.c_proj.weight_q4"} <= rounded


@pytest.mark.parametrize("precision", ["int8-dynamic", "fp16"])
def test_there_is_none_of_other_precisions(precision: str, models: Callable[[str], Path]) -> None:
    assert not (models(precision) / "model.kernels.onnx").exists()
