"""Checkpoints in formats of PyTorch: wrapped, damaged, or with any index."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file as load_torch

from gpt2onnx.errors import (
    CheckpointError,
)
from gpt2onnx.export.exporter import export
from tests.checkpoints import make_checkpoint
from tests.export.test_wrong_input import TINY, VALUES, assert_read_or_refused
from tests.torch_checkpoints import Format, save_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), **TINY)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "model"


@pytest.mark.parametrize("wrapping", ["prefix", "state_dict", "protocol 5"])
def test_a_wrapped_checkpoint_is_verified_as_well(
    checkpoint: Path, out: Path, wrapping: str
) -> None:
    folder = shutil.copytree(checkpoint, out.parent / "wrapped")
    tensors = load_torch(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    wrapped: dict[str, Any] = {
        "prefix": {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()},
        "state_dict": {"state_dict": tensors, "epoch": 3},
        "protocol 5": tensors,
    }
    protocol = 5 if wrapping == "protocol 5" else 2
    torch.save(wrapped[wrapping], folder / "pytorch_model.bin", pickle_protocol=protocol)
    made = export(folder, out, precision="fp32", verify=True)
    assert made.verification is not None
    assert made.verification.max_difference < 1e-3


@pytest.mark.parametrize("format", ["safetensors", "sharded", "bin", "sharded-bin"])
def test_damaged_bytes(tmp_path: Path, format: Format) -> None:
    folder = save_checkpoint(tmp_path, format=format, n_layer=1)
    chance = random.Random(0)
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*model*")):
        if "token" in path.name or "vocab" in path.name:
            continue
        whole = path.read_bytes()
        for _ in range(20):
            damaged = damage(bytearray(whole), chance)
            path.write_bytes(damaged)
            assert_read_or_refused(folder, (path.name, damaged[:200]))
        path.write_bytes(whole)


def damage(content: bytearray, chance: random.Random) -> bytes:
    """Cut short, turned over in a few bits, or with bytes put between."""
    head = min(len(content), chance.choice([16, 200, 4000, len(content)]))
    at = chance.randrange(head)
    match chance.choice(["cut", "flip", "flip", "insert"]):
        case "cut":
            del content[at:]
        case "flip":
            for _ in range(chance.choice([1, 4])):
                content[chance.randrange(head)] ^= 1 << chance.randrange(8)
        case "insert":
            content[at:at] = chance.randbytes(chance.choice([1, 3, 100]))
    return bytes(content)


@pytest.mark.parametrize("format", ["sharded", "sharded-bin"])
def test_any_weight_map(tmp_path: Path, format: Format) -> None:
    folder = save_checkpoint(tmp_path, format=format, n_layer=1)
    index = next(folder.glob("*.index.json"))
    names = ["..", ".", "/etc/passwd", "config.json", "a\0b", "x" * 300, "\x1b[1m"]
    for value in (*VALUES, *names):
        for weight_map in (value, {"x": value}):
            index.write_text(json.dumps({"weight_map": weight_map}))
            assert_read_or_refused(folder, weight_map)


def test_options_that_transformers_refuses_are_told(checkpoint: Path, out: Path) -> None:
    folder = shutil.copytree(checkpoint, out.parent / "odd")
    config = json.loads((folder / "config.json").read_text()) | {"resid_pdrop": "x"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"transformers can't load it \(TypeError: .*--no-veri"
    ):
        export(folder, out, precision="fp32", verify=True)
    export(folder, out, precision="fp32", verify=False)
