"""What an export makes of damaged checkpoints and arguments of other types: a named error."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

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
from tests.checkpoints import make_checkpoint
from tests.raising import raises

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
    with raises(ParameterError, parameters={name: value}):
        export("no/such/checkpoint", out, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["precision", "graph", "device", "kv_cache"])
@pytest.mark.parametrize(
    "value", [None, 8, "", [], np.array(["fp32", "int8"]), "x" * 5000, HUGE], ids=kind
)
def test_a_choice_is_one_of_some_names(out: Path, name: str, value: object) -> None:
    if name == "graph" and value is None:
        return  # the runtime's own
    with raises(ParameterError, parameters={name: value}) as raised:
        export("no/such/checkpoint", out, **{name: value})  # type: ignore[arg-type]
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("value", [None, 3, b"x", "", "a\0b", "\ud800", HUGE], ids=kind)
def test_what_is_no_path(checkpoint: Path, out: Path, value: Any) -> None:
    with raises(CheckpointError, name="source"):
        export(value, out)
    with raises(ExportError, name="out"):
        export(checkpoint, value)
    if value is not None:
        with raises(ParameterError, name="calibration"):
            export(checkpoint, out, calibration=value)
    assert not out.exists()


def test_names_that_are_too_long(checkpoint: Path, out: Path, tmp_path: Path) -> None:
    with raises(CheckpointError, path=Path("x" * 5000)):
        export("x" * 5000, out)
    with raises(StorageError, path=tmp_path / ("x" * 5000)):
        export(checkpoint, tmp_path / ("x" * 5000))


def test_a_file_whose_name_is_no_utf8(checkpoint: Path, out: Path, tmp_path: Path) -> None:
    text = tmp_path / os.fsdecode(b"na\xefve")
    text.write_text("abc" * 30, encoding="utf-8")
    export(checkpoint, out, calibration=text, verify=False)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["calibration"].endswith(r"na\udcefve")


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
