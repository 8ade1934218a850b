from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gpt2onnx.errors import (
    CheckpointError,
    InstallationError,
    OutputExistsError,
    ParameterError,
    StorageError,
    VerificationError,
    WeightsError,
)
from gpt2onnx.export import exporter
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.exporter import Export, export
from gpt2onnx.export.graph import kernels as kernels_graph
from gpt2onnx.export.quantization.table import PRECISIONS
from gpt2onnx.export.writing.onnx_builder import GraphBuilder
from tests.checkpoints import make_checkpoint
from tests.export.logits import exported_logits, open_exported
from tests.export.writing.test_folder import tree
from tests.raising import raises
from tests.torch_checkpoints import Format, save_checkpoint

EXPORTS = [
    *((precision, "cpu") for precision in PRECISIONS),
    *((precision, "cuda") for precision in ("fp32", "fp16", "int8", "int4")),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def exports(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Export]:
    """An export, verified, for each precision and device."""
    folder = tmp_path_factory.mktemp("exports")
    return {
        (precision, device): export(
            checkpoint, folder / f"{precision}-{device}", precision=precision, device=device
        )
        for precision, device in EXPORTS
    }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A model folder that is there already."""
    out = tmp_path / "model"
    out.mkdir()
    for name in ("manifest.json", "model.onnx"):
        (out / name).write_bytes(b"old")
    return out


def spoil(checkpoint: Path, folder: Path, name: str, value: float) -> Path:
    """A copy of a checkpoint with one number of a tensor replaced."""
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors[name].flat[tensors[name].size // 2] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(("precision", "device"), EXPORTS)
def test_the_manifest_describes_the_folder(
    exports: dict[tuple[str, str], Export], checkpoint: Path, precision: str, device: str
) -> None:
    made = exports[precision, device]
    manifest = json.loads((made.folder / "manifest.json").read_text())
    files = manifest.pop("files")
    half = precision == "fp16" or (device == "cuda" and precision != "fp32")
    assert made.verification is not None
    assert manifest.pop("versions")
    assert manifest == {
        "format_version": 1,
        "graph": "fused",
        "precision": precision,
        "runtime": "onnxruntime",
        "device": device,
        "activations": "float16" if half else "float32",
        "opset": 24 if (precision, device) == ("fp32", "cuda") else 21,
        "hidden_states": False,
        "attention_bias": False,
        "kv_cache": "float16" if device == "cpu" and precision in ("int8", "int4") else "float",
        "calibration": None,
        "source": {"name": str(checkpoint), "revision": None},
        "verification": asdict(made.verification),
    }
    assert files == {
        path.name: {
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in made.folder.iterdir()
        if path.name not in ("manifest.json", "README.md")
    }
    kernels = device == "cpu" and precision in kernels_graph.PRECISIONS
    assert files.keys() == {
        *("model.onnx", "model.onnx.data"),
        *(["model.draft.onnx", "model.kernels.onnx"] if kernels else []),
        *("config.json", "generation_config.json", "tokenizer.json"),
    }


def test_an_export_says_what_it_made(exports: dict[tuple[str, str], Export]) -> None:
    made = exports["int8", "cpu"]
    assert (made.graph, made.precision) == ("fused", "int8")
    assert made.size == sum(path.stat().st_size for path in made.folder.iterdir())
    assert made.seconds > 0
    assert made.verification_seconds > 0
    assert str(made).startswith(f"{made.folder}: int8, fused graph, 0.3 MB in ")
    assert str(made).endswith(f"; {made.verification}")


def test_fewer_bits_are_further_from_pytorch(exports: dict[tuple[str, str], Export]) -> None:
    found = [exports[name, "cpu"].verification for name in ("fp32", "fp16", "int8", "int4")]
    verified = [verification for verification in found if verification]
    assert all(fewer.mean_kl < 0.5 * more.mean_kl for fewer, more in pairwise(verified))
    assert verified[0].mean_kl < 1e-9
    assert verified[1].mean_kl < 1e-4
    assert verified[3].mean_kl < 0.3
    assert [result.top_token_agreement for result in verified[:2]] == [1, 1]
    assert verified[2].top_token_agreement > 0.85


def test_devices_and_ways_of_int8_differ_little(exports: dict[tuple[str, str], Export]) -> None:
    for precision, device, bound in (
        ("int8", "cpu", 0.005),
        ("int8", "cuda", 0.005),
        ("int8-dynamic", "cpu", 0.01),
    ):
        verification = exports[precision, device].verification
        assert verification is not None
        assert verification.mean_kl < bound


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_checkpoint_gives_the_same_bytes(
    exports: dict[tuple[str, str], Export], checkpoint: Path, tmp_path: Path, precision: str
) -> None:
    made = export(checkpoint, tmp_path / "again", precision=precision, verify=False)
    first, second = tree(exports[precision, "cpu"].folder), tree(made.folder)
    for name in ("manifest.json", "README.md"):  # one is verified, which they tell
        assert first.pop(name) != second.pop(name)
    assert first == second


@pytest.mark.parametrize("format", ["sharded", "bin"])
def test_the_weights_matter_and_not_their_format(
    exports: dict[tuple[str, str], Export], tmp_path: Path, format: Format
) -> None:
    source = save_checkpoint(tmp_path / "checkpoint", format=format, prefix=False)
    export(source, tmp_path / "model", verify=False)
    for name in ("model.onnx", "model.onnx.data"):
        expected = exports["int8", "cpu"].folder / name
        assert (tmp_path / "model" / name).read_bytes() == expected.read_bytes()


def test_the_portable_graph_goes_through_the_same_door(checkpoint: Path, tmp_path: Path) -> None:
    made = export(checkpoint, tmp_path / "model", graph="portable", precision="fp32", device="cpu")
    assert made.verification is not None
    assert made.verification.max_difference < 1e-4
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert (manifest["graph"], manifest["precision"]) == ("portable", "fp32")
    assert not manifest.keys() & {"device", "activations", "opset"}


@pytest.mark.parametrize(
    ("parameters", "refused"),
    [
        ({"precision": "int2"}, {"precision": "int2"}),
        ({"graph": "fast"}, {"graph": "fast"}),
        ({"device": "gpu"}, {"device": "gpu"}),
        (
            {"precision": "int8-dynamic", "device": "cuda"},
            {"precision": "int8-dynamic", "device": "cuda"},
        ),
        (
            {"precision": "fp32", "device": "cuda", "with_attention_bias": True},
            {"with_attention_bias": True, "device": "cuda"},
        ),
        ({"graph": "portable", "precision": "int4"}, {"precision": "int4"}),
        ({"graph": "portable", "precision": "fp16"}, {"precision": "fp16"}),
        ({"graph": "portable", "device": "cuda"}, {"device": "cuda"}),
    ],
)
def test_parameters_are_refused_before_anything_is_read(
    out: Path, parameters: dict[str, Any], refused: dict[str, Any]
) -> None:
    with raises(ParameterError, parameters=refused):
        export("no/such/checkpoint", out, **parameters)


def test_a_place_is_refused_before_anything_is_read(out: Path) -> None:
    with pytest.raises(OutputExistsError):
        export("no/such/checkpoint", out)
    with pytest.raises(CheckpointError):
        export("no/such/checkpoint", out, force=True)


def test_force_replaces_a_model_folder(checkpoint: Path, out: Path) -> None:
    (out / "stray.bin").touch()
    made = export(checkpoint, str(out), force=True, verify=False)
    assert made.folder == out
    assert not (out / "stray.bin").exists()
    assert [*out.parent.iterdir()] == [out]
    open_exported(out)


def test_a_checkpoint_is_never_replaced(checkpoint: Path) -> None:
    before = tree(checkpoint)
    with raises(OutputExistsError, path=checkpoint):
        export(checkpoint, checkpoint, force=True)
    assert tree(checkpoint) == before


@pytest.mark.parametrize(
    ("precision", "name", "value", "named"),
    [
        ("fp16", "transformer.h.1.mlp.c_fc.weight", 1e5, "h.1.mlp.c_fc"),
        ("fp16", "transformer.h.1.mlp.c_fc.bias", -1e5, "h.1.mlp.c_fc"),
        ("fp16", "transformer.ln_f.weight", 1e5, "ln_f.weight"),
        ("fp16", "transformer.wpe.weight", 1e5, "wpe"),
        ("fp32", "transformer.h.0.attn.c_attn.weight", np.nan, None),
        ("int8", "transformer.h.1.mlp.c_proj.weight", np.inf, None),
        ("int4", "transformer.wte.weight", -np.inf, None),
    ],
)
def test_weights_that_cannot_be_stored_leave_the_place_alone(
    checkpoint: Path, out: Path, precision: str, name: str, value: float, named: str | None
) -> None:
    """A number beyond fp16 is the graph's, under its name there; NaN is the checkpoint's."""
    spoiled = spoil(checkpoint, out.parent / "spoiled", name, value)
    before = tree(out.parent)
    with raises(WeightsError, name=named or name) as raised:
        export(spoiled, out, precision=precision, force=True)
    assert "\n" not in str(raised.value)
    assert tree(out.parent) == before


def test_weights_of_another_config_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    source = spoil(checkpoint, tmp_path / "checkpoint", "transformer.ln_f.bias", 0)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"n_layer": 1}))
    with raises(WeightsError, name="transformer.h.1.attn.c_attn.bias"):
        export(source, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_wrong_graph_leaves_the_place_alone(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gpt2Config, "scale", lambda self, layer: 1.0)
    before = tree(out.parent)
    with pytest.raises(VerificationError):
        export(checkpoint, out, precision="fp32", force=True)
    assert tree(out.parent) == before


def test_an_interrupt_leaves_the_place_alone(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(items: Iterable[int], label: str) -> Iterable[int]:
        for item in items:
            if item == 1:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(exporter, "silent", interrupted)
    before = tree(out.parent)
    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, out, force=True)
    assert tree(out.parent) == before


class Disk:
    """Lets so many writes through and fails the next one, as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
        self.left = writes
        for name in ("write_text", "write_bytes"):
            monkeypatch.setattr(Path, name, self.counted(getattr(Path, name)))
        monkeypatch.setattr(
            exporter,
            "GraphBuilder",
            lambda data, *rest: GraphBuilder(CountedFile(data, self), *rest),
        )

    def counted(self, write: Any) -> Any:
        def counted_write(*arguments: Any, **options: Any) -> Any:
            self.take()
            return write(*arguments, **options)

        return counted_write

    def take(self) -> None:
        if not self.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= 1


class CountedFile:
    """A file whose writes a Disk counts."""

    def __init__(self, file: BinaryIO, disk: Disk) -> None:
        self.tell = file.tell
        self.write = disk.counted(file.write)


def test_a_full_disk_leaves_the_place_alone(tmp_path: Path, out: Path) -> None:
    source = make_checkpoint(tmp_path / "checkpoint", n_layer=1, n_embd=8, n_head=1)
    before = tree(tmp_path)
    writes = 0
    while True:
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = Disk(monkeypatch, writes)
            try:
                export(source, out, force=True, verify=False)
                break
            except StorageError as error:
                assert str(error) == (  # noqa: PT017
                    f"{out}: No space left on device; free some space or choose another place"
                )
        assert tree(tmp_path) == before
        writes += 1
    assert disk.left == 0
    assert writes > 20  # the matrices with what fills their pages up, the graph, four JSON files


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )


def test_without_torch_nothing_is_verified_unless_asked_for(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "torch")
    made = export(checkpoint, tmp_path / "model")
    assert made.verification is None
    assert str(made).endswith("; not verified")
    assert json.loads((made.folder / "manifest.json").read_text())["verification"] is None
    with raises(InstallationError, name="torch"):
        export("no/such/checkpoint", tmp_path / "other", verify=True)


def test_verify_false_does_not_verify(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(exporter, "verify_folder", fail)
    assert export(checkpoint, tmp_path / "model", verify=False).verification is None


def test_progress_changes_nothing_else(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export(checkpoint, tmp_path / "shown", verify=False, progress=True)
    export(checkpoint, tmp_path / "silent", verify=False)
    assert tree(tmp_path / "shown") == tree(tmp_path / "silent")
    assert capfd.readouterr() == ("", "")  # a bar comes up after a second


def test_an_export_without_its_settings_of_generation(checkpoint: Path, tmp_path: Path) -> None:
    source = spoil(checkpoint, tmp_path / "checkpoint", "transformer.ln_f.bias", 0)
    (source / "generation_config.json").unlink()
    made = export(source, tmp_path / "model", precision="fp32")
    assert not (made.folder / "generation_config.json").exists()
    assert exported_logits(open_exported(made.folder), np.arange(3), 2).shape == (3, 257)


SCRIPTS = {
    "before a module of it": "import gpt2onnx; function = gpt2onnx.export",
    "after a module of it": "import gpt2onnx.export.exporter; function = gpt2onnx.export",
    "from the package": "from gpt2onnx import export as function",
    "from its own package": "from gpt2onnx.export import export as function",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_export_is_callable(script: str) -> None:
    call = (
        "try: function('no/such', 'no/out', precision='int3')\n"
        "except ValueError as error: print(error, function.__call__.__doc__)"
    )
    printed = run_python(f"{script}\n{call}")
    assert printed.startswith("precision='int3': expected one of")


@pytest.mark.parametrize("package", ["onnx", "huggingface_hub", "tqdm"])
def test_a_missing_package_is_named(package: str) -> None:
    printed = run_python(
        f"import sys; sys.modules[{package!r}] = None; import gpt2onnx\n"
        "try: gpt2onnx.export\n"
        "except gpt2onnx.Gpt2OnnxError as error: print(type(error).__name__, error)"
    )
    assert printed == (
        f"InstallationError exporting needs {package}, which isn't installed: "
        "pip install 'gpt2onnx[export]'\n"
    )


def run_python(script: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
