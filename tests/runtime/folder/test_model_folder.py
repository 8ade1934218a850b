"""Model folders: what is refused, and by which words; when checksums are computed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx.errors import (
    CorruptModelError,
    ModelFolderError,
    ParameterError,
    PromptError,
    StorageError,
)
from gpt2onnx.runtime.folder import model_folder as folder_module
from gpt2onnx.runtime.folder.manifest import MANIFEST
from gpt2onnx.runtime.folder.model_folder import open_folder
from tests.raising import raises


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
    "model.draft.onnx",
    "model.kernels.onnx",
    "model.onnx",
    "model.onnx.data",
    "tokenizer.json",
]
# What the model also runs without.
BESIDE = ("model.draft.onnx", "model.kernels.onnx")
# Settings may be edited; the others are the model.
CHECKED = [name for name in FILES if name != "generation_config.json"]


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
    assert opened.generation_config is not None
    assert opened.generation_config["eos_token_id"] == 256
    assert opened.manifest is not None
    assert sorted(opened.manifest["files"]) == FILES
    opened.check_hashes()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CorruptModelError, match=f"{name}: missing, though the manifest lists it"):
        gpt2onnx.load(folder)


@pytest.mark.parametrize("name", CHECKED)
def test_a_truncated_file(folder: Path, name: str) -> None:
    size = (folder / name).stat().st_size
    os.truncate(folder / name, size - 1)
    with pytest.raises(CorruptModelError, match=f"{name}: {size - 1} bytes, .* says {size}: tru"):
        gpt2onnx.load(folder)


@pytest.mark.parametrize("name", CHECKED)
def test_other_bytes_of_the_same_size(folder: Path, name: str) -> None:
    flip_a_byte(folder / name)
    with pytest.raises(
        CorruptModelError, match=rf"{name}: (sha256 is|expected JSON, found a mistake)"
    ):
        gpt2onnx.load(folder)


def test_checksums_are_computed_once(folder: Path, hashed: list[str]) -> None:
    gpt2onnx.load(folder)
    assert sorted(hashed) == CHECKED
    gpt2onnx.load(folder)
    gpt2onnx.load(folder)
    assert len(hashed) == len(CHECKED)


@pytest.mark.parametrize("name", [*CHECKED, MANIFEST])
def test_a_touched_file_is_checked_again(folder: Path, hashed: list[str], name: str) -> None:
    gpt2onnx.load(folder)
    os.utime(folder / name, ns=(1, 1))
    gpt2onnx.load(folder)
    assert len(hashed) == 2 * len(CHECKED)


def test_a_change_that_hides_its_time_is_found(folder: Path, hashed: list[str]) -> None:
    gpt2onnx.load(folder)
    before = (folder / "model.onnx.data").stat()
    flip_a_byte(folder / "model.onnx.data")
    os.utime(folder / "model.onnx.data", ns=(before.st_atime_ns, before.st_mtime_ns))
    with raises(CorruptModelError, path=folder / "model.onnx.data", found=None):
        gpt2onnx.load(folder)


def test_what_failed_is_checked_again(folder: Path, hashed: list[str]) -> None:
    flip_a_byte(folder / "model.onnx.data")
    for _ in range(2):
        with raises(CorruptModelError, path=folder / "model.onnx.data", found=None):
            gpt2onnx.load(folder)


def test_what_was_found_is_remembered(folder: Path, hashed: list[str]) -> None:
    opened = open_folder(folder)
    assert opened.check_once(lambda: 256) == 256
    assert opened.check_once(lambda: pytest.fail("asked again")) == 256


def test_edited_settings_are_used(folder: Path, hashed: list[str]) -> None:
    assert open_folder(folder).edited_settings() == []
    gpt2onnx.load(folder)
    change_json(folder / "generation_config.json", max_new_tokens=3, repetition_penalty=1.5)
    hashed.clear()
    model = gpt2onnx.load(folder)
    assert hashed == []
    assert len(model.generate("abc", eos_token_id=None).token_ids) == 3
    assert model.params({}).repetition_penalty == 1.5
    assert open_folder(folder).edited_settings() == ["generation_config.json"]
    open_folder(folder).check_hashes()


@pytest.mark.parametrize(
    ("key", "value"), [("temprature", 0.5), ("sequence_bias", [[[5], 1.0]]), ("top_h", 0.5)]
)
def test_doing_what_the_error_says_of_a_setting_works(folder: Path, key: str, value: Any) -> None:
    file = folder / "generation_config.json"
    change_json(file, **{key: value})
    with raises(ParameterError, name=key):
        gpt2onnx.load(folder)
    change_json(file, **{key: None})
    assert gpt2onnx.load(folder).generate("a", max_new_tokens=1).token_ids


def test_edited_settings_that_are_no_json(folder: Path) -> None:
    (folder / "generation_config.json").write_text("{'max_new_tokens': 3}")
    with raises(ModelFolderError, path=folder / "generation_config.json"):
        gpt2onnx.load(folder)


def test_settings_with_a_byte_order_mark(folder: Path) -> None:
    file = folder / "generation_config.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert gpt2onnx.load(folder).params({}).eos_token_ids == (256,)


def test_a_copy_is_checked_by_itself(folder: Path, hashed: list[str]) -> None:
    gpt2onnx.load(folder)
    gpt2onnx.load(shutil.copytree(folder, folder.with_name("copy")))
    assert len(hashed) == 2 * len(CHECKED)


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
    assert len(hashed) == 2 * len(CHECKED)


def test_a_cache_that_cannot_be_read(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    opened = open_folder(folder)
    monkeypatch.setattr(Path, "read_bytes", refused)
    assert opened.check_once(lambda: 7) == 7
    assert sorted(hashed) == CHECKED


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format_version": ' + b"1" * 5000 + b"}"],
    ids=lambda content: repr(content[:20]),
)
def test_manifests_that_are_no_json(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with raises(CorruptModelError, path=folder / MANIFEST, name=None):
        gpt2onnx.load(folder)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ('{"format_version": 2}', ModelFolderError, "format version 2, this gpt2onnx reads 1;"),
        ('{"name": "an app"}', ModelFolderError, "format version None, this gpt2onnx reads 1;"),
        ('{"format_version": 1}', CorruptModelError, 'expected "files" with the size and sha256'),
        ('{"format_version": 1, "files": []}', CorruptModelError, 'expected "files"'),
        ('{"format_version": 1, "files": {"a": 1}}', CorruptModelError, 'expected "files"'),
        ('{"format_version": 1, "files": {"a": {"size": 1}}}', CorruptModelError, "sha256"),
    ],
)
def test_manifests(folder: Path, content: str, error: type[Exception], message: str) -> None:
    (folder / MANIFEST).write_text(content)
    with pytest.raises(error, match=message) as raised:
        gpt2onnx.load(folder)
    assert str(folder / MANIFEST) in str(raised.value)


@pytest.mark.parametrize("value", [None, 0, -1, "64", 64.5, True, 10**400])
def test_positions_that_are_no_number(folder: Path, value: Any) -> None:
    (folder / MANIFEST).unlink()
    change_json(folder / "config.json", n_positions=value, n_ctx=None)
    with pytest.raises(ModelFolderError, match=r"config.json: n_positions is .*, expected"):
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
    assert open_folder(folder).generation_config is None


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
    with raises(ModelFolderError, name="more"):
        gpt2onnx.load(folder)


@pytest.mark.parametrize("index", [257, 4096, 2**31 - 1])
@pytest.mark.parametrize("known", [False, True])
def test_a_template_token_beyond_the_vocabulary(folder: Path, index: int, known: bool) -> None:
    """Whatever the manifest says of the file, and each time."""
    path = folder / "tokenizer.json"
    token = {"id": "<t>", "ids": [index], "tokens": ["<t>"]}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<t>", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<t>": token},
    }
    change_json(path, post_processor=template)
    if known:
        manifest = json.loads((folder / MANIFEST).read_text())
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest["files"][path.name] = {"size": path.stat().st_size, "sha256": digest}
        (folder / MANIFEST).write_text(json.dumps(manifest))
    else:
        (folder / MANIFEST).unlink()
    for _ in range(2):
        with raises(ModelFolderError, name="<t>"):
            gpt2onnx.load(folder)


def test_a_tokenizer_that_kills_a_process(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    table = {"type": "Precompiled", "precompiled_charsmap": "/////////////w=="}
    change_json(folder / "tokenizer.json", normalizer=table)
    with raises(ModelFolderError, path=folder / "tokenizer.json", name=None):
        gpt2onnx.load(folder)


def test_a_text_that_the_tokenizer_cannot_read(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<unk>"}
    change_json(folder / "tokenizer.json", model=model, added_tokens=[])
    opened = gpt2onnx.load(folder)
    assert opened.generate([0], max_new_tokens=1).token_ids
    with pytest.raises(PromptError, match="Missing"):
        opened.generate("b")


def test_a_tokenizer_that_is_none(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / "tokenizer.json").write_text("{}")
    with raises(ModelFolderError, path=folder / "tokenizer.json", name=None):
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


# --- what other people put there -----------------------------------------------------------------


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def replace_by_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


NO_FILES = (replace_by_folder, replace_by_loop)


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize(
    "replaced", [replace_by_pipe, replace_by_folder, replace_by_loop, replace_by_device]
)
def test_what_is_no_regular_file(
    folder: Path, name: str, replaced: Callable[[Path], None], manifest: bool
) -> None:
    if not manifest and name != MANIFEST:
        (folder / MANIFEST).unlink()
    if name == MANIFEST and replaced is replace_by_loop:
        return  # as if there were none
    if not manifest and name == "generation_config.json" and replaced is replace_by_loop:
        return
    if not manifest and name in BESIDE and replaced in NO_FILES:
        return  # as if there were none
    replaced(folder / name)
    with pytest.raises(ModelFolderError):
        gpt2onnx.load(folder)


@pytest.mark.parametrize(
    "name", ["../config.json", "/etc/hostname", "a/../../b", "", ".", "..", "a\0b", "\ud800"]
)
def test_a_manifest_names_files_of_its_own_folder(folder: Path, name: str) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    content["files"] = {name: content["files"]["config.json"]}
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(CorruptModelError, match=r"expected (files of its own folder|Unicode)"):
        gpt2onnx.load(folder)


def test_a_manifest_names_no_file_by_a_name_that_none_can_have(folder: Path) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    content["files"] = {"x" * 5000: content["files"]["config.json"]}
    (folder / MANIFEST).write_text(json.dumps(content))
    with raises(ModelFolderError, path=folder / ("x" * 5000)):
        gpt2onnx.load(folder)


SIZES = ["1", 1.0, None, True, [], -1, 10**400, 2**63]
DIGESTS = [None, 1, [], "0" * 63, "x" * 64]


@pytest.mark.parametrize(
    "entry", [*({"size": size} for size in SIZES), *({"sha256": digest} for digest in DIGESTS)]
)
def test_sizes_and_checksums_of_other_types(folder: Path, entry: dict[str, Any]) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    content["files"]["config.json"] |= entry
    (folder / MANIFEST).write_text(json.dumps(content))
    with raises(CorruptModelError, path=folder / MANIFEST, name="files"):
        gpt2onnx.load(folder)


def test_a_file_of_four_terabytes_is_not_read(folder: Path, hashed: list[str]) -> None:
    os.truncate(folder / "model.onnx.data", 4 << 40)
    content = json.loads((folder / MANIFEST).read_text())
    content["files"]["model.onnx.data"]["size"] = 4 << 40
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ModelFolderError, match=r"4,398 GB, more than 4 times the .* memory"):
        gpt2onnx.load(folder)
    assert hashed == []


def test_a_file_that_is_too_large_to_be_text(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    os.truncate(folder / "config.json", 4 << 40)
    with raises(CorruptModelError, path=folder / "config.json"):
        gpt2onnx.load(folder)


@pytest.mark.parametrize(
    "path", [None, 3, [], {}, b"\xff", "a\0b", "\ud800", "x" * 5000, "a/" * 3000, 1.5, True]
)
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(ModelFolderError):
        gpt2onnx.load(path)


def test_without_a_home_there_is_no_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[str]
) -> None:
    monkeypatch.setenv("GPT2ONNX_CACHE", "~nosuchuser/cache")
    for _ in range(2):
        assert gpt2onnx.load(folder).generate("a", max_new_tokens=2).token_ids
    assert len(hashed) == 2 * len(CHECKED)
    with raises(StorageError, name="GPT2ONNX_CACHE"):
        gpt2onnx.load("demo")
