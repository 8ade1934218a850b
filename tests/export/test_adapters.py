"""Exports with adapters: what the folder says of them, and that every kind of export has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx.errors import AdapterError
from gpt2onnx.export.checkpoint.adapter import open_adapter, open_adapters
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint, tensor_shapes
from gpt2onnx.export.checkpoint.merging import with_adapters
from gpt2onnx.runtime.decoder import reads
from tests.adapters import make_adapter
from tests.checkpoints import make_checkpoint
from tests.raising import raises

IDS = np.arange(40)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [make_adapter(root / str(seed), seed=seed, lora_alpha=16) for seed in range(2)]


def export(source: Path, out: Path, **options: Any) -> Path:
    return gpt2onnx.export(source, out, verify=False, **{"precision": "fp32", **options}).folder


def logits(folder: Path) -> np.ndarray:
    """[40, vocab] of some text."""
    decoder = gpt2onnx.load(folder, "cpu", threads=1, startup_cache=False).decoder
    row = decoder.new_row()
    found = reads.extend(decoder, row, IDS)
    decoder.free(row)
    return found


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory, adapters: list[Path]) -> Path:
    """A checkpoint of the merged weights: an export of it has no adapter to do with."""
    from safetensors.numpy import save_file

    folder = make_checkpoint(tmp_path_factory.mktemp("merged"))
    both = with_adapters(open_checkpoint(folder), open_adapters(adapters))
    tensors = {f"transformer.{name}": both.tensor(name) for name in tensor_shapes(both.config)}
    save_file(
        {n: np.ascontiguousarray(t) for n, t in tensors.items()}, folder / "model.safetensors"
    )
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "int8"},
        {"precision": "int4", "kv_cache": "int8"},
        {"runtime": "transformers.js"},
        {"runtime": "genai", "precision": "int4"},
        {"runtime": "openvino"},
    ],
    ids=str,
)
def test_an_export_is_that_of_the_merged_weights(
    checkpoint: Path, merged: Path, adapters: list[Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    found = export(checkpoint, tmp_path / "found", adapter=adapters, **options)
    expected = export(merged, tmp_path / "expected", **options)
    np.testing.assert_array_equal(logits(found), logits(expected))
    assert (
        np.abs(logits(found) - logits(export(checkpoint, tmp_path / "plain", **options))).max() > 1
    )


def test_the_folder_says_which(checkpoint: Path, adapters: list[Path], tmp_path: Path) -> None:
    folder = export(checkpoint, tmp_path / "model", adapter=adapters)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["adapters"] == [
        {"name": str(adapter), "sha256": open_adapter(adapter).sha256} for adapter in adapters
    ]
    for adapter in adapters:
        row = f"| adapter | {adapter}, sha256 {open_adapter(adapter).sha256} |\n"
        assert row in (folder / "README.md").read_text()
    plain = export(checkpoint, tmp_path / "plain")
    assert "adapters" not in json.loads((plain / "manifest.json").read_text())
    assert "adapter" not in (plain / "README.md").read_text()


def test_a_head_of_its_own(checkpoint: Path, tmp_path: Path) -> None:
    """The embedding stays what it was, so the model has two matrices from now on."""
    head = np.random.default_rng(0).normal(0, 0.1, (257, 32)).astype("f4")
    adapter = make_adapter(tmp_path / "adapter", tensors={"base_model.model.lm_head.weight": head})
    folder = export(checkpoint, tmp_path / "model", adapter=adapter)
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
    assert not np.array_equal(logits(folder), logits(export(checkpoint, tmp_path / "plain")))


FACTOR = "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"


def test_nothing_is_left_of_an_export_that_fails(checkpoint: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", r=5)
    with raises(AdapterError, path=adapter / "adapter_model.safetensors", name=FACTOR):
        export(checkpoint, tmp_path / "model", adapter=adapter)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_an_adapter_is_looked_at_before_a_checkpoint_is_fetched(tmp_path: Path) -> None:
    with raises(AdapterError, path=Path("lost")):
        export(Path("no/such/checkpoint"), tmp_path / "model", adapter="lost")
