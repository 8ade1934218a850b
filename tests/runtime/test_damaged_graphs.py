"""Graphs that aren't what they say: refused when opened, or by name when they are run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

import gpt2onnx
from gpt2onnx.errors import ModelFolderError

Damage = Callable[[Any], object]
KEY = "past_key_values.0.key"
pytestmark = pytest.mark.usefixtures("todays_graph")  # which is the one that is damaged


def named(values: Any, name: str) -> Any:
    return next(value for value in values if value.name == name)


def renamed(old: str, new: str) -> Damage:
    """An input or an output of another name, wherever it is used."""

    def damage(graph: Any) -> None:
        for value in (*graph.input, *graph.output):
            value.name = new if value.name == old else value.name
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    return damage


def shapeless(name: str) -> Damage:
    def damage(graph: Any) -> None:
        values = (*graph.input, *graph.output)
        named(values, name).type.tensor_type.ClearField("shape")

    return damage


def dimension(name: str, axis: int, **size: Any) -> Damage:
    def damage(graph: Any) -> None:
        shape = named((*graph.input, *graph.output), name).type.tensor_type.shape
        shape.dim[axis].CopyFrom(onnx.TensorShapeProto.Dimension(**size))

    return damage


def typed(name: str, element: int) -> Damage:
    def damage(graph: Any) -> None:
        named((*graph.input, *graph.output), name).type.tensor_type.elem_type = element

    return damage


def external(**entries: str) -> Damage:
    """What all weights say of where they lie."""

    def damage(graph: Any) -> None:
        for tensor in graph.initializer:
            for entry in tensor.external_data:
                entry.value = entries.get(entry.key, entry.value)

    return damage


def shortened(name: str) -> Damage:
    """A table that lacks its last 50 rows."""

    def damage(graph: Any) -> None:
        tensor = named(graph.initializer, name)
        rows = tensor.dims[0]
        tensor.dims[0] -= 50
        for entry in tensor.external_data:
            if entry.key == "length":
                entry.value = str(int(entry.value) * (rows - 50) // rows)

    return damage


DAMAGES = {
    "a present renamed": renamed("present.0.key", "present.0.k"),
    "no logits": renamed("logits", "scores"),
    "no ids": renamed("input_ids", "ids"),
    "no positions": renamed("position_ids", "positions"),
    "a layer renamed": renamed("past_key_values.1.key", "past_key_values.7.key"),
    "no outputs": lambda graph: graph.ClearField("output"),
    "heads without a number": dimension(KEY, 1, dim_param="heads"),
    "no heads": dimension(KEY, 1, dim_value=0),
    "other heads": dimension(KEY, 1, dim_value=2**40),
    "another head_dim": dimension(KEY, 3, dim_value=7),
    "a past without a shape": shapeless(KEY),
    "a past of another type": typed(KEY, TensorProto.FLOAT16),
    "logits of another type": typed("logits", TensorProto.FLOAT16),
    "ids that are numbers": typed("input_ids", TensorProto.FLOAT),
    "ids that are texts": typed("input_ids", TensorProto.STRING),
    "weights outside of the folder": external(location="../other.data"),
    "weights somewhere": external(location="/etc/passwd"),
    "weights in a folder": external(location="."),
    "weights beyond the end": external(offset=str(10**12)),
    "weights of no length": external(length="-1"),
    "a short embedding": shortened("wte.weight"),
    "few positions": shortened("wpe.weight"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_it_is_refused(
    models: Callable[[str], Path],
    tmp_path: Path,
    damage: Damage,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(models("fp32"), tmp_path / "model")
    (folder / "manifest.json").unlink()
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    damage(model.graph)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFolderError):
        gpt2onnx.load(folder, threads=1).generate([256, 3], max_new_tokens=50, eos_token_id=[])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "given",
    [
        {"provider": None},
        {"provider": 3},
        {"provider": ["cpu"]},
        {"provider": ""},
        {"provider": "x" * 5000},
        {"provider": "\0\ud800"},
        *({"threads": n} for n in (0, -1, True, "2", 2.0, 10**6, 10**400, [2], b"2")),
        *({"startup_cache": value} for value in ("no", None, 0, 1, [])),
        {"provider_options": []},
        {"provider_options": "a"},
        {"provider_options": {"a": "b"}},
        *(
            {"provider": "cuda", "provider_options": options}
            for options in (
                ["a"],
                {1: "a"},
                {"a": None},
                {"a": "\0"},
                {"\ud800": "a"},
                {"a": 10**5000},
                {"device_id": []},
                {"x" * 5000: "a"},
            )
        ),
    ],
)
def test_what_load_takes(models: Callable[[str], Path], given: dict[str, Any]) -> None:
    with pytest.raises(gpt2onnx.Gpt2OnnxError) as raised:
        gpt2onnx.load(models("fp32"), **given)
    assert len(str(raised.value)) < 500
