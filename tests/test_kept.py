from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt2onnx import kept
from gpt2onnx.runtime.ort.startup_cache import startup_entries
from gpt2onnx.runtime.ort.startup_entries import ENTRY

UNFINISHED = ".unfinished.gpt2onnx-0000000000000000"
DEMO = {"source": {"name": "/demo/model", "revision": None}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with one of everything, and something that isn't gpt2onnx's."""
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path))
    about = {"path": "/models/a", "precision": "int8"}
    startup_entries().add({"model": "a"}, about, lambda f: write(f / "model.onnx", 100))
    tokenizer = {"path": "/models/a", "graph": "tokenizer"}
    startup_entries().add({"model": "t"}, tokenizer, lambda f: write(f / "vocab.json", 50))
    startup_entries().add({"model": "b"}, about | {"precision": None}, lambda _: "it is odd")
    write(tmp_path / "startup" / UNFINISHED / "model.onnx", 10)
    write(tmp_path / "demo" / "0.0.9-1-1" / "int8" / "model.onnx", 1000)
    write(tmp_path / "checked" / "abc", 0)
    write(tmp_path / "thesis" / "chapter1.txt", 7)
    return tmp_path


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_everything_is_listed(folder: Path) -> None:
    found = [(each.kind, each.name, each.size) for each in kept.kept()]
    assert sorted(found) == [
        ("checked", "1 folders whose checksums agreed", 0),
        ("export", "demo, int8", 1000),
        ("startup", f"{UNFINISHED}: being written, or abandoned", 10),
        ("startup", "/models/a (int8)", 100),
        ("startup", "/models/a (tokenizer)", 50),
        ("startup", "/models/a: none, it is odd", 0),
    ]
    assert all(Path(each.path).is_relative_to(folder) for each in kept.kept())


@pytest.mark.parametrize(
    ("manifest", "name"),
    [
        (json.dumps(DEMO), "demo, int8 of /demo/model"),
        ("{}", "demo, int8"),
        ("[]", "demo, int8"),
        ('{"source": null}', "demo, int8"),
        ("half of", "demo, int8"),
    ],
)
def test_an_export_names_its_checkpoint(folder: Path, manifest: str, name: str) -> None:
    """Where its manifest does: one that doesn't, or is no JSON, hides no export."""
    (folder / "demo" / "0.0.9-1-1" / "int8" / "manifest.json").write_text(manifest)
    assert [each.name for each in kept.kept() if each.kind == "export"] == [name]


def test_what_a_process_renames_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that is finished between its being found and its being read, or removed."""
    original = Path.rglob

    def renaming(path: Path, pattern: str) -> Iterator[Path]:
        for file in original(path, pattern):
            if path.name == UNFINISHED:
                path.rename(path.with_name("finished"))
            yield file

    monkeypatch.setattr(Path, "rglob", renaming)
    assert f"{UNFINISHED}: being written, or abandoned" not in [each.name for each in kept.kept()]
    removing = shutil.rmtree
    failures = iter([FileNotFoundError(2, "No such file or directory")])

    def failing(path: Path) -> None:
        for failure in failures:
            raise failure
        removing(path)

    monkeypatch.setattr(shutil, "rmtree", failing)
    kept.clear()
    assert [path.name for path in folder.iterdir()] == ["thesis"]


def test_clearing_leaves_what_is_not_ours(folder: Path) -> None:
    assert kept.clear() == 1160
    assert kept.kept() == []
    assert [path.name for path in folder.iterdir()] == ["thesis"]
    assert kept.clear() == 0


def test_a_cache_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "none"))
    assert (kept.kept(), kept.clear()) == ([], 0)
    assert not (tmp_path / "none").exists()


def test_damaged_entries_stop_neither_listing_nor_clearing(folder: Path) -> None:
    (entry,) = (each for each in startup_entries() if each.about.get("precision"))
    (entry.path / ENTRY).write_text('{"made_of": 1e999}')
    (damaged,) = (each for each in kept.kept() if "damaged" in each.name)
    assert (damaged.kind, damaged.path) == ("startup", str(entry.path))
    kept.clear()
    assert [path.name for path in folder.iterdir()] == ["thesis"]
