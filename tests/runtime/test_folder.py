"""Model folders: what is refused, and by which words; when checksums are computed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx.errors import CorruptModelError, ModelFolderError
from gpt2onnx.runtime import folder as folder_module
from gpt2onnx.runtime.folder import MANIFEST, open_folder


@pytest.fixture
def folder(models: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a model folder, to be damaged."""
    return shutil.copytree(models("fp32"), tmp_path / "model")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The files whose checksums are computed; the cache is empty at first."""
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "cache"))
    names: list[str] = []
    sha256 = folder_module._sha256

    def recorded(path: Path) -> str:
        names.append(path.name)
        return sha256(path)

    monkeypatch.setattr(folder_module, "_sha256", recorded)
    return names


FILES = [
    "config.json",
    "generation_config.json",
    "model.kernels.onnx",
    "model.onnx",
    "model.onnx.data",
    "tokenizer.json",
]


def change_json(path: Path, **changes: Any) -> None:
    """Set keys; None takes one away."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_a_folder_holds(folder: Path) -> None:
    opened = open_folder(str(folder))
    assert opened.graph == folder / "model.onnx"
    assert opened.tokenizer == folder / "tokenizer.json"
    assert opened.n_positions == 64
    assert opened.config["vocab_size"] == 257
    assert opened.generation_config["eos_token_id"] == 256
    assert opened.manifest is not None
    assert sorted(opened.manifest["files"]) == FILES
    opened.check_hashes()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CorruptModelError, match=f"{name}: missing, though the manifest lists it"):
        gpt2onnx.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file(folder: Path, name: str) -> None:
    size = (folder / name).stat().st_size
    os.truncate(folder / name, size - 1)
    with pytest.raises(CorruptModelError, match=f"{name}: {size - 1} bytes, .* says {size}: tru"):
        gpt2onnx.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_other_bytes_of_the_same_size(folder: Path, name: str) -> None:
    flip_a_byte(folder / name)
    with pytest.raises(CorruptModelError, match=rf"{name}: (sha256 is|can't be read as JSON)"):
        gpt2onnx.load(folder)


def test_checksums_are_computed_once(folder: Path, hashed: list[str]) -> None:
    gpt2onnx.load(folder)
    assert sorted(hashed) == FILES
    gpt2onnx.load(folder)
    gpt2onnx.load(folder)
    assert len(hashed) == len(FILES)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_touched_file_is_checked_again(folder: Path, hashed: list[str], name: str) -> None:
    gpt2onnx.load(folder)
    os.utime(folder / name, ns=(1, 1))
    gpt2onnx.load(folder)
    assert len(hashed) == 2 * len(FILES)


def test_a_change_that_hides_its_time_is_found(folder: Path, hashed: list[str]) -> None:
    gpt2onnx.load(folder)
    before = (folder / "model.onnx.data").stat()
    flip_a_byte(folder / "model.onnx.data")
    os.utime(folder / "model.onnx.data", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CorruptModelError, match=r"model\.onnx\.data: sha256 is"):
        gpt2onnx.load(folder)


def test_what_failed_is_checked_again(folder: Path, hashed: list[str]) -> None:
    flip_a_byte(folder / "model.onnx.data")
    for _ in range(2):
        with pytest.raises(CorruptModelError):
            gpt2onnx.load(folder)


def test_a_copy_is_checked_by_itself(folder: Path, hashed: list[str]) -> None:
    gpt2onnx.load(folder)
    gpt2onnx.load(shutil.copytree(folder, folder.with_name("copy")))
    assert len(hashed) == 2 * len(FILES)


@pytest.mark.parametrize("where", ["/dev/null/cache", "/proc/cache", "a file"])
def test_a_cache_that_cannot_be_written(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Then every load computes the checksums again."""
    if where == "a file":
        where = str(folder / "config.json")
    monkeypatch.setenv("GPT2ONNX_CACHE", where)
    gpt2onnx.load(folder)
    gpt2onnx.load(folder)
    assert len(hashed) == 2 * len(FILES)


def test_a_cache_that_cannot_be_read(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    opened = open_folder(folder)
    monkeypatch.setattr(Path, "exists", refused)
    opened.check_hashes_once()
    assert sorted(hashed) == FILES


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("{", CorruptModelError, "can't be read as JSON: Expecting property name"),
        ("[]", CorruptModelError, "expected a JSON object, found list"),
        (b"\xff\xfe", CorruptModelError, "can't be read as JSON: 'utf-8' codec"),
        ('{"format_version": 2}', ModelFolderError, "format version 2, this gpt2onnx reads 1;"),
        ('{"name": "an app"}', ModelFolderError, "format version None, this gpt2onnx reads 1;"),
        ('{"format_version": 1}', CorruptModelError, 'expected "files" with the size and sha256'),
        ('{"format_version": 1, "files": []}', CorruptModelError, 'expected "files"'),
        ('{"format_version": 1, "files": {"a": 1}}', CorruptModelError, 'expected "files"'),
        ('{"format_version": 1, "files": {"a": {"size": 1}}}', CorruptModelError, "sha256"),
    ],
)
def test_manifests(
    folder: Path, content: str | bytes, error: type[Exception], message: str
) -> None:
    (folder / MANIFEST).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=message) as raised:
        gpt2onnx.load(folder)
    assert str(folder / MANIFEST) in str(raised.value)


@pytest.mark.parametrize("value", [None, 0, -1, "64", 64.5])
def test_positions_that_are_no_number(folder: Path, value: Any) -> None:
    (folder / MANIFEST).unlink()
    change_json(folder / "config.json", n_positions=value, n_ctx=None)
    with pytest.raises(ModelFolderError, match=f"config.json: n_positions is {value!r}, expected"):
        gpt2onnx.load(folder)


def test_max_position_embeddings_is_n_positions(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    change_json(folder / "config.json", n_positions=None, max_position_embeddings=48)
    assert gpt2onnx.load(folder).decoder.n_positions == 48


def test_a_folder_without_a_manifest(folder: Path, hashed: list[str]) -> None:
    (folder / MANIFEST).unlink()
    opened = open_folder(folder)
    assert opened.manifest is None
    assert gpt2onnx.load(folder).generate("a", max_new_tokens=2).token_ids
    assert hashed == []
    with pytest.raises(ModelFolderError, match=r"no manifest\.json, so there are no checksums"):
        opened.check_hashes()


@pytest.mark.parametrize("name", ["decoder_model_merged.onnx", "onnx/model.onnx"])
def test_where_other_exporters_put_the_graph(folder: Path, name: str) -> None:
    (folder / MANIFEST).unlink()
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / name)
    assert open_folder(folder).graph == folder / name


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_of_another_exporter_that_lacks_a_file(folder: Path, name: str) -> None:
    (folder / MANIFEST).unlink()
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match=name):
        gpt2onnx.load(folder)


def test_generation_config_may_be_missing(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / "generation_config.json").unlink()
    assert open_folder(folder).generation_config == {}


def test_no_model_folder(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, message in (
        (tmp_path / "nowhere", "nowhere: doesn't exist, expected a model folder; `gpt2onnx export"),
        (file, "file: is a file, expected a model folder"),
        (tmp_path, r"no ONNX model in it; expected one of model\.onnx,"),
        (checkpoint, "no ONNX model in it; a checkpoint\\? `gpt2onnx export` makes a model folder"),
    ):
        with pytest.raises(ModelFolderError, match=message):
            gpt2onnx.load(path)


def test_a_tokenizer_of_another_size(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["more"] = 300
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelFolderError, match="has 258 tokens, the model 257"):
        gpt2onnx.load(folder)


def test_a_tokenizer_that_is_none(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelFolderError, match=r"tokenizer\.json: can't be read"):
        gpt2onnx.load(folder)


def test_the_identity_is_the_weights_own_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / "README.md").write_text("about it")
    identity = open_folder(folder).identity()
    assert open_folder(moved).identity() == identity
    assert identity.keys() == {"model.onnx", "model.onnx.data"}
    sums = json.loads((folder / MANIFEST).read_text())["files"]
    assert all(identity[name] == sums[name]["sha256"] for name in identity)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_without_a_manifest_the_identity_changes_when_a_file_does(folder: Path, name: str) -> None:
    (folder / MANIFEST).unlink()
    before = open_folder(folder).identity()
    assert open_folder(folder).identity() == before
    flip_a_byte(folder / name)
    assert open_folder(folder).identity() != before


def test_the_size_is_that_of_the_graph_and_its_weights(folder: Path) -> None:
    sizes = [(folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data")]
    assert open_folder(folder).graph_size() == sum(sizes)
