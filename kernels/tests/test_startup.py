"""The start-up cache of models in the kernels' graph: weights as they packed them, mapped.

tests/runtime/ort/test_startup_cache.py has what is the same for both graphs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gpt2onnx_kernels
import numpy as np
import pytest

import gpt2onnx
from gpt2onnx import kept
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.flat import FlatDecoder
from gpt2onnx.runtime.decoder.writer import LoopWriter
from gpt2onnx.runtime.folder.model_folder import DRAFT_GRAPH
from gpt2onnx.runtime.ort import session_options
from gpt2onnx.runtime.ort import startup_cache as startup
from gpt2onnx.runtime.ort.startup_entries import Entry
from tests.checkpoints import make_checkpoint

# Sizes that ONNX Runtime's own form takes as well; the kernels' form takes any.
ALIGNED = {"n_embd": 128, "vocab_size": 320, "n_positions": 64}
KINDS: dict[str, dict[str, Any]] = {
    **{precision: {} for precision in ("fp32", "int8", "int4")},
    "int8, odd sizes": {},
    "int8, hidden states": {"with_hidden_states": True},
    "int8, int8 KV cache": {"kv_cache": "int8"},
}
IDS = np.arange(30) * 7 % 257


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(startup, "MIN_SIZE", 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An exported model of each kind."""
    place = tmp_path_factory.mktemp("models")
    aligned = make_checkpoint(place / "checkpoint", **ALIGNED)
    odd = make_checkpoint(place / "odd", n_embd=39, n_head=3, n_inner=71)

    @cache
    def exported(kind: str) -> Path:
        precision, _, rest = kind.partition(", ")
        checkpoint = odd if rest == "odd sizes" else aligned
        out = place / kind.replace(", ", "-")
        options = {"precision": precision, "verify": False, **KINDS[kind]}
        return gpt2onnx.export(checkpoint, out, **options).folder

    return exported


@pytest.fixture
def folder(folders: Callable[[str], Path]) -> Path:
    return folders("int8")


def load(folder: Path, graph: str = "kernels", **options: Any) -> gpt2onnx.Model:
    return gpt2onnx.load(folder, provider="cpu", threads=1, graph=graph, **options)


def outcome(folder: Path, graph: str = "kernels") -> str:
    return load(folder, graph).session.startup


def logits(model: gpt2onnx.Model) -> bytes:
    decoder = model.decoder
    row = decoder.new_row()
    found = [reads.extend(decoder, row, IDS), reads.step(decoder, [row], IDS[:1])]
    decoder.free(row)
    return np.concatenate(found).tobytes()


def made() -> list[Entry]:
    return list(startup.startup_entries())


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_logits_bit_for_bit(folders: Callable[[str], Path], kind: str) -> None:
    plain = load(folders(kind), startup_cache=False)
    assert (plain.session.startup, made()) == ("not used", [])
    first, second = load(folders(kind)), load(folders(kind))
    assert (first.session.startup, second.session.startup) == ("made", "used")
    assert isinstance(second.decoder, FlatDecoder)
    assert logits(first) == logits(second) == logits(plain)
    assert load(folders(kind), startup_cache=False).session.startup == "not used"


def test_an_entry_has_each_matrix_once_and_is_mapped(folder: Path) -> None:
    load(folder)
    model = load(folder)
    (entry,) = made()
    layers = [f"h.{layer}.{name}" for layer in range(2) for name in ("attn", "mlp")]
    matrices = {f"{name}.{part}" for name in layers for part in ("c_attn", "c_proj", "c_fc")}
    matrices = {name for name in matrices if "attn.c_fc" not in name and "mlp.c_attn" not in name}
    directions = [f"{name}.directions" for name in matrices]
    assert entry.files.keys() == {f"{name}.packed" for name in (*matrices, *directions, "logits")}
    maps = Path("/proc/self/maps").read_text()
    assert all(str(entry.path / name) in maps for name in entry.files)
    assert logits(model)


def writer(model: gpt2onnx.Model) -> LoopWriter:
    found = model.decoder.writer
    assert isinstance(found, LoopWriter)
    return found


def draft(model: gpt2onnx.Model) -> tuple[list[int], bytes]:
    """What the model writes in one run behind some tokens, and how probable each is."""
    row = model.decoder.new_row()
    ids, logprobs = writer(model).go_on(row, IDS[:5], 9)
    model.decoder.free(row)
    return ids.tolist(), logprobs.tobytes()


def test_a_draft_maps_the_same_files(folder: Path) -> None:
    plain = load(folder, startup_cache=False)
    expected = draft(plain)
    assert writer(plain).session.startup == "not used"
    for _ in range(2):  # made, and used
        model = load(folder)
        assert draft(model) == expected
        assert writer(model).session.startup == "used"
    (entry,) = made()
    assert len(entry.files) == 9 + 8  # matrices and directions
    before = load(folder)
    shutil.rmtree(entry.path)
    assert draft(before) == expected
    assert writer(before).session.startup == "not used"
    assert made() == []


def test_a_draft_graph_of_another_model_takes_nothing_of_the_entry(
    folder: Path, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its matrices are of other forms; what is there stays."""
    mixed = Path(shutil.copytree(folder, tmp_path / "mixed"))
    (mixed / "manifest.json").unlink()
    shutil.copy(folders("int4") / DRAFT_GRAPH, mixed)
    model = load(mixed)
    assert writer(model).session.startup.startswith("not used: ")
    assert len(made()) == 1
    assert outcome(mixed) == "used"


def test_both_graphs_have_their_own(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders("int8"), tmp_path / "model"))
    for expected in ("made", "used"):
        assert (outcome(folder, "onnx"), outcome(folder)) == (expected, expected)
    names = {each.name for each in kept.kept() if each.kind == "startup"}
    assert names == {f"{folder} (int8)", f"{folder} (int8, kernels)"}
    # Exported again, the graph that is opened throws away its former entry alone.
    shutil.rmtree(folder)
    shutil.copytree(folders("fp32"), folder)
    assert outcome(folder) == "made"
    names = {each.name for each in kept.kept() if each.kind == "startup"}
    assert names == {f"{folder} (int8)", f"{folder} (fp32, kernels)"}


def test_other_kernels_make_their_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = logits(load(folder))
    for name in gpt2onnx_kernels.kernels_here()[1:]:
        monkeypatch.setenv(gpt2onnx_kernels.KERNELS_VARIABLE, name)
        for expected in ("made", "used"):
            model = load(folder)
            assert model.session.startup == expected
            assert model.session.choice.endswith(f"; {name} kernels")
            assert logits(model) == plain
    monkeypatch.delenv(gpt2onnx_kernels.KERNELS_VARIABLE)
    assert outcome(folder) == "used"


def test_another_build_makes_its_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(folder)
    other = Path(shutil.copy(gpt2onnx_kernels.library(), tmp_path / "libother.so"))
    with other.open("ab") as file:
        file.write(b"\0")  # behind what is loaded
    monkeypatch.setenv(gpt2onnx_kernels.LIBRARY_VARIABLE, str(other))
    assert (outcome(folder), outcome(folder)) == ("made", "used")
    assert len(made()) == 2


def test_a_build_that_keeps_nothing_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that is older than what it is asked for."""
    plain = logits(load(folder, startup_cache=False))
    monkeypatch.setattr(session_options, "DOMAIN", "another")
    for _ in range(2):
        model = load(folder)
        assert "gpt2onnx-kernels is older, and kept nothing" in model.session.startup
        assert logits(model) == plain
    (entry,) = made()
    assert entry.size == 0


@pytest.mark.parametrize("size", [None, 0, 100, -64])
def test_a_damaged_file_is_made_again(folder: Path, size: int | None) -> None:
    plain = logits(load(folder))
    (entry,) = made()
    file = entry.path / "logits.packed"
    if size is None:
        file.unlink()
    else:
        os.truncate(file, size if size >= 0 else file.stat().st_size + size)
    model = load(folder)
    assert model.session.startup == "made"
    assert logits(model) == plain
    assert outcome(folder) == "used"


@pytest.mark.parametrize("content", [b"", b"\xff" * 1000, None])
def test_damage_that_only_a_disk_could_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """What leaves all times as they were: the library sees that it isn't the matrix's file."""
    plain = logits(load(folder))
    (entry,) = made()
    other = (entry.path / "h.0.mlp.c_proj.packed").read_bytes()
    (entry.path / "h.0.mlp.c_fc.packed").write_bytes(other if content is None else content)
    monkeypatch.setattr(Entry, "renewed", lambda entry: entry)
    model = load(folder)
    assert model.session.startup == "damaged, and thrown away"
    assert logits(model) == plain
    assert (outcome(folder), outcome(folder)) == ("made", "used")


def test_a_cache_that_cannot_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "file"))
    model = load(folder)
    assert model.session.startup.startswith("not used: [Errno")
    assert logits(model)


def test_a_size_limit_of_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2ONNX_STARTUP_CACHE_SIZE", "0")
    assert outcome(folder) == "not used: its size limit is 0"
    assert made() == []
