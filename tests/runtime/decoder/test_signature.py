"""Graphs that aren't what a decoder wants are refused, with their file and what is to blame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx.errors import ModelFolderError, ParameterError
from gpt2onnx.runtime.decoder import flat, fused
from gpt2onnx.runtime.decoder.arena import CacheShape
from gpt2onnx.runtime.decoder.flat import FlatDecoder
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.decoder.signature import (
    PAST,
    cache_names,
    cache_shape,
    fixed_size,
    require_names,
    width,
)
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.open_model import open_decoder
from gpt2onnx.runtime.ort.provider import CPU, CUDA
from gpt2onnx.runtime.ort.session import Session, TensorSpec, open_session
from tests.raising import raises

FILE = Path("model/model.onnx")
FLOAT, HALF = np.dtype(np.float32), np.dtype(np.float16)
CACHE = TensorSpec(FLOAT, ("batch", 2, "capacity", 8))
LAYERS = [f"{PAST}{layer}.{kind}" for layer in (0, 1) for kind in ("key", "value")]


def session(**outputs: tuple[int | str, ...]) -> Session:
    """A session of two layers, with these outputs."""
    given = {name: TensorSpec(FLOAT, shape) for name, shape in outputs.items()}
    return Session(None, CPU, 0, "", dict.fromkeys(LAYERS, CACHE), given, file=FILE)


def of_cache(**changed: TensorSpec) -> Session:
    """A session of one layer, of which these differ: key or value."""
    names = {name: f"{PAST}0.{name}" for name in ("key", "value")}
    inputs = {told: changed.get(name, CACHE) for name, told in names.items()}
    return Session(None, CPU, 0, "", inputs, {}, file=FILE)


def test_the_cache_that_a_graph_wants() -> None:
    assert cache_names(session()) == ["0.key", "0.value", "1.key", "1.value"]
    assert cache_shape(session(), 16) == CacheShape(2, 2, 8, 16, FLOAT)


def test_a_cache_of_other_sizes_or_types_is_refused() -> None:
    free = TensorSpec(FLOAT, ("batch", "heads", "past", 8))
    with pytest.raises(
        ModelFolderError,
        match=r"'heads', 'past', 8\): expected \[batch, heads, capacity, head_dim\] with a number",
    ) as raised:
        cache_shape(of_cache(key=free, value=free), 16)
    assert str(raised.value).startswith(f"{FILE}: {PAST}0.key has the shape ")
    for other in (TensorSpec(HALF, CACHE.shape), TensorSpec(FLOAT, ("batch", 2, "capacity", 9))):
        with raises(ModelFolderError, path=FILE, name=f"{PAST}0.value"):
            cache_shape(of_cache(value=other), 16)
    with raises(ModelFolderError, path=FILE, name=f"{PAST}0.key"):
        cache_shape(of_cache(key=TensorSpec(FLOAT, ()), value=TensorSpec(FLOAT, ())), 16)
    with raises(ModelFolderError, path=FILE, name=None):
        cache_shape(Session(None, CPU, 0, "", {}, {}, file=FILE), 16)


def test_an_output_of_a_free_width_is_refused() -> None:
    given = session(logits=("count", 257), hidden_states=("count", "width"))
    assert (width(given, "logits"), width(given, "top_ids")) == (257, 0)
    assert fixed_size(given, f"{PAST}1.key", 3, "batch, heads, capacity, head_dim") == 8
    with raises(ModelFolderError, path=FILE, name="hidden_states"):
        width(given, "hidden_states")


def test_what_a_graph_lacks_is_named() -> None:
    require_names(session(logits=("n", 9)), LAYERS, ["logits"])
    with pytest.raises(ModelFolderError, match="expected ids, too") as raised:
        require_names(session(), [*LAYERS, "ids"])
    assert raised.value.path == FILE
    with pytest.raises(ModelFolderError, match="the graph's outputs are logits: expected top_ids"):
        require_names(session(logits=("n", 9)), LAYERS, ["logits", "top_ids"])


# Each decoder with what it wants beside a cache: inputs and outputs.
PRESENT = [name.replace(PAST, "present.") for name in LAYERS]
WANTED = {
    FlatDecoder: (flat.INPUTS, flat.OUTPUTS),
    FusedDecoder: (fused.INPUTS, ("logits", *PRESENT)),
}


@pytest.mark.parametrize("decoder", WANTED)
def test_decoders_refuse_what_is_incomplete(
    decoder: type[FlatDecoder] | type[FusedDecoder],
) -> None:
    inputs = dict.fromkeys([*WANTED[decoder][0], *LAYERS], CACHE)
    outputs = dict.fromkeys(WANTED[decoder][1], TensorSpec(FLOAT, ("n", 9)))
    for lacking in [*inputs, *outputs]:
        names = [{n: s for n, s in each.items() if n != lacking} for each in (inputs, outputs)]
        with pytest.raises(ModelFolderError, match=f"expected {lacking}, too") as raised:
            decoder(Session(None, CPU, 0, "", *names, file=FILE), 16)
        assert raised.value.path == FILE


@pytest.mark.parametrize("how", [{"with_attention_bias": True}, {"graph": "portable"}], ids=str)
def test_a_graph_whose_steps_cannot_be_captured_is_refused_where_that_is_asked_for(
    how: dict[str, Any], wide_checkpoint: Path, tmp_path: Path
) -> None:
    made = gpt2onnx.export(wide_checkpoint, tmp_path / "m", precision="fp32", verify=False, **how)
    folder = open_folder(made.folder)
    plain = open_session(folder.graph, "cpu")
    assert open_decoder(folder, plain).vocab_size
    with raises(ParameterError, named=("enable_cuda_graph",)) as raised:
        open_decoder(folder, replace(plain, runs_on=CUDA, captures=True))
    assert str(folder.graph) in str(raised.value)
