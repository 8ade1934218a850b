"""What an export makes of damaged checkpoints and arguments of other types: a named error."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch

from gpt2onnx.errors import (
    CheckpointError,
    ExportError,
    Gpt2OnnxError,
    ParameterError,
    StorageError,
    UnsupportedConfigError,
    WeightsError,
)
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint, tensor_shapes
from gpt2onnx.export.checkpoint.config import ALIASES, DEFAULTS, REFUSED, Gpt2Config
from gpt2onnx.export.exporter import export
from tests.checkpoints import Format, make_checkpoint

TINY = {"n_embd": 8, "n_head": 2, "n_positions": 16, "n_layer": 1}


HUGE = 10**5000  # Python writes no number of so many digits


def kind(value: object) -> str:
    """What pytest calls a value."""
    return type(value).__name__


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), **TINY)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "model"


@pytest.mark.parametrize(
    "name", ["with_hidden_states", "with_attention_bias", "force", "progress", "verify"]
)
@pytest.mark.parametrize("value", ["no", "", 0, 1, [], np.array([True])])
def test_a_flag_is_true_or_false(out: Path, name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=rf"{name}=.*: expected True or False"):
        export("no/such/checkpoint", out, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["precision", "graph", "device", "kv_cache"])
@pytest.mark.parametrize(
    "value", [None, 8, "", [], np.array(["fp32", "int8"]), "x" * 5000, HUGE], ids=kind
)
def test_a_choice_is_one_of_some_names(out: Path, name: str, value: object) -> None:
    if name == "graph" and value is None:
        return  # the runtime's own
    with pytest.raises(ParameterError, match=f"{name}=.*: expected one of ") as raised:
        export("no/such/checkpoint", out, **{name: value})  # type: ignore[arg-type]
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("value", [None, 3, b"x", "", "a\0b", "\ud800", HUGE], ids=kind)
def test_what_is_no_path(checkpoint: Path, out: Path, value: Any) -> None:
    with pytest.raises(CheckpointError, match="source: expected a path"):
        export(value, out)
    with pytest.raises(ExportError, match="out: expected a path"):
        export(checkpoint, value)
    if value is not None:
        with pytest.raises(ParameterError, match="calibration: expected a path"):
            export(checkpoint, out, calibration=value)
    assert not out.exists()


def test_names_that_are_too_long(checkpoint: Path, out: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="File name too long"):
        export("x" * 5000, out)
    with pytest.raises(StorageError, match="File name too long"):
        export(checkpoint, tmp_path / ("x" * 5000))


def test_a_file_whose_name_is_no_utf8(checkpoint: Path, out: Path, tmp_path: Path) -> None:
    text = tmp_path / os.fsdecode(b"na\xefve")
    text.write_text("abc" * 30, encoding="utf-8")
    export(checkpoint, out, calibration=text, verify=False)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["calibration"].endswith(r"na\udcefve")


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


def test_options_that_transformers_refuses_are_told(checkpoint: Path, out: Path) -> None:
    folder = shutil.copytree(checkpoint, out.parent / "odd")
    config = json.loads((folder / "config.json").read_text()) | {"resid_pdrop": "x"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"transformers can't load it \(TypeError: .*--no-veri"
    ):
        export(folder, out, precision="fp32", verify=True)
    export(folder, out, precision="fp32", verify=False)


@pytest.mark.parametrize("kv_cache", ["float", "int8"])
@pytest.mark.parametrize("value", [1e-40, 1e10, 1e20, 1e30, 3e38])
def test_weights_of_extreme_size_are_rounded_or_refused(
    checkpoint: Path, out: Path, value: float, kv_cache: str
) -> None:
    # numpy's warnings are errors here.
    folder = shutil.copytree(checkpoint, out.parent / "extreme")
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        tensors[name] = np.sign(tensor) * value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for precision in ("int8", "int8-dynamic", "int4"):
        with contextlib.suppress(WeightsError):
            export(folder, out, precision=precision, kv_cache=kv_cache, verify=False, force=True)


# Every JSON value that there is, in its extremes.
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**9, 10**400, -(10**400)),
    *(0.0, 1.5, -2.5, 1e308, float("nan"), float("inf")),
    *("", "x", "1", "\x1b[31m\n", "x" * 5000),
    *([], [1], [None], ["a"], [[[]]], [10**400], {}, {"a": 1}, {"0": [1]}),
]


def assert_read_or_refused(folder: Path, what: object) -> None:
    """Read all of a checkpoint, or get an error whose message is one short line."""
    try:
        opened = open_checkpoint(folder)
        opened.check()
        for name in tensor_shapes(opened.config):
            opened.tensor(name)
    except Gpt2OnnxError as error:
        message = str(error)
        if not message.isprintable() or len(message) > 1500:
            pytest.fail(f"{what}: {message}")


def test_any_option_of_any_type(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "damaged")
    config = json.loads((folder / "config.json").read_text())
    original = Gpt2Config.from_json(config)
    for name in (*config, *DEFAULTS, *ALIASES, *REFUSED):
        for value in VALUES:
            changed = config | {name: value}
            with contextlib.suppress(UnsupportedConfigError):
                if Gpt2Config.from_json(changed) != original:
                    (folder / "config.json").write_text(json.dumps(changed))
                    assert_read_or_refused(folder, (name, value))


@pytest.mark.parametrize("format", ["safetensors", "sharded", "bin", "sharded-bin"])
def test_damaged_bytes(tmp_path: Path, format: Format) -> None:
    folder = make_checkpoint(tmp_path, format=format, n_layer=1)
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


def header_with(change: Callable[[dict[str, Any]], object], path: Path) -> None:
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    change(header)
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[end:])


def test_any_entry_of_any_type_in_a_header(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "damaged")
    path, name = folder / "model.safetensors", "transformer.wte.weight"
    whole = path.read_bytes()
    for field in ("dtype", "shape", "data_offsets", "more"):
        for value in (*VALUES, [0, 10**400], [10**400, 0], [-1, -1], [1] * 100, "I64", "F8_E4M3"):
            header_with(lambda header: header[name].update({field: value}), path)  # noqa: B023
            assert_read_or_refused(folder, (field, value))
            path.write_bytes(whole)


@pytest.mark.parametrize("format", ["sharded", "sharded-bin"])
def test_any_weight_map(tmp_path: Path, format: Format) -> None:
    folder = make_checkpoint(tmp_path, format=format, n_layer=1)
    index = next(folder.glob("*.index.json"))
    names = ["..", ".", "/etc/passwd", "config.json", "a\0b", "x" * 300, "\x1b[1m"]
    for value in (*VALUES, *names):
        for weight_map in (value, {"x": value}):
            index.write_text(json.dumps({"weight_map": weight_map}))
            assert_read_or_refused(folder, weight_map)
