from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import get_session

from gpt2onnx.errors import HubError, InstallationError, UnsupportedConfigError
from gpt2onnx.export.checkpoint import hub as hub_module
from gpt2onnx.export.checkpoint.hub import fetch
from tests.export.fake_hub import COMMIT, FakeHub, serve
from tests.raising import raises

FILES = {
    "config.json": b'{"model_type": "gpt2"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"the weights",
    "pytorch_model.bin": b"the same weights",
    "tf_model.h5": b"and again",
    "README.md": b"# A model",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.models["someone/tiny-gpt2"] = dict(FILES)
        yield hub


def assert_refuses(repo_id: str, *parts: str, revision: str | None = None) -> None:
    with pytest.raises(HubError) as raised:
        fetch(repo_id, revision)
    message = str(raised.value)
    assert "\n" not in message
    for part in (repo_id, *parts):
        assert part in message


def test_downloads_what_a_checkpoint_consists_of_and_no_more(hub: FakeHub) -> None:
    snapshot = fetch("someone/tiny-gpt2")
    assert snapshot.commit == COMMIT
    expected = {"config.json", "tokenizer.json", "model.safetensors"}
    assert {path.name for path in snapshot.folder.iterdir()} == expected
    for name in expected:
        assert (snapshot.folder / name).read_bytes() == FILES[name]
    assert sorted(hub.downloads()) == sorted(expected)
    assert hub.downloads()[-1] == "model.safetensors", "a cache with weights must be whole"


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT])
def test_any_revision_resolves_to_its_commit(hub: FakeHub, revision: str) -> None:
    assert fetch("someone/tiny-gpt2", revision).commit == COMMIT


def test_a_model_without_an_owner(hub: FakeHub) -> None:
    hub.models["gpt2"] = dict(FILES)
    assert (fetch("gpt2").folder / "model.safetensors").exists()


def test_pytorch_weights_where_there_are_no_others(hub: FakeHub) -> None:
    del hub.models["someone/tiny-gpt2"]["model.safetensors"]
    assert (fetch("someone/tiny-gpt2").folder / "pytorch_model.bin").exists()


def test_shards(hub: FakeHub) -> None:
    files = hub.models["someone/tiny-gpt2"]
    del files["model.safetensors"]
    files["model.safetensors.index.json"] = b"an index"
    files |= {"model-1.safetensors": b"one", "model-2.safetensors": b"two"}
    assert {path.name for path in fetch("someone/tiny-gpt2").folder.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors.index.json",
        "model-1.safetensors",
        "model-2.safetensors",
    }
    assert hub.downloads()[-1] == "model.safetensors.index.json"


def test_nothing_is_downloaded_twice(hub: FakeHub) -> None:
    fetch("someone/tiny-gpt2")
    hub.requests.clear()
    fetch("someone/tiny-gpt2")
    assert not hub.downloads()


def test_a_model_that_cant_be_exported_costs_no_download(hub: FakeHub) -> None:
    hub.models["someone/tiny-gpt2"]["config.json"] = b'{"model_type": "llama"}'
    with raises(UnsupportedConfigError, name="model_type"):
        fetch("someone/tiny-gpt2")
    assert hub.downloads() == ["config.json"]


def test_no_such_model(hub: FakeHub) -> None:
    assert_refuses("someone/else", hub.endpoint, "HF_TOKEN", "a folder is meant, it doesn't exist")


def test_no_such_revision(hub: FakeHub) -> None:
    assert_refuses("someone/tiny-gpt2", "no revision 'v9'", "/tree/main", revision="v9")


def test_gated(hub: FakeHub) -> None:
    hub.gated.add("someone/tiny-gpt2")
    assert_refuses("someone/tiny-gpt2", "is gated", "accept its terms", "HF_TOKEN")


def test_no_config_and_no_weights(hub: FakeHub) -> None:
    del hub.models["someone/tiny-gpt2"]["model.safetensors"]
    del hub.models["someone/tiny-gpt2"]["pytorch_model.bin"]
    assert_refuses("someone/tiny-gpt2", "has none of model.safetensors, ")
    del hub.models["someone/tiny-gpt2"]["config.json"]
    assert_refuses("someone/tiny-gpt2", "has no config.json")


@pytest.mark.parametrize("repo_id", ["a/b/c", "-gpt2", "x" * 100, "a--b"])
def test_invalid_id(hub: FakeHub, repo_id: str) -> None:
    assert_refuses(repo_id, "neither a folder here nor a model id")
    assert not hub.requests


def test_hub_out_of_order(hub: FakeHub) -> None:
    hub.broken = True
    assert_refuses("someone/tiny-gpt2", hub.endpoint, "503")


def test_nobody_answers(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert_refuses("someone/tiny-gpt2", "http://127.0.0.1:9 gave none", "refused")


def test_an_answer_that_is_no_hubs(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeHub, "answer", lambda self, path: (200, {}, b"<html>"))
    assert_refuses("someone/tiny-gpt2", hub.endpoint)


def test_the_cache_serves_when_nobody_answers(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = fetch("someone/tiny-gpt2", "v1.0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch("someone/tiny-gpt2", "v1.0") == snapshot
    assert fetch("someone/tiny-gpt2", COMMIT) == snapshot


def test_the_cache_serves_offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = fetch("someone/tiny-gpt2")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch("someone/tiny-gpt2") == snapshot
    assert not hub.requests


def test_offline_with_half_a_checkpoint_or_none(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = fetch("someone/tiny-gpt2")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_refuses("someone/other", "HF_HUB_OFFLINE is set")
    (snapshot.folder / "model.safetensors").unlink()
    assert_refuses("someone/tiny-gpt2", "HF_HUB_OFFLINE is set")


def test_without_huggingface_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InstallationError, match=r"pip install 'gpt2onnx\[export\]'"):
        fetch("someone/tiny-gpt2")


def everything_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"../../../../evil"'},
        {"ETag": 'W/"../../../../evil"'},
        {"ETag": "/tmp/evil"},
        {"ETag": "..\\evil"},
        {"ETag": '".."'},
        {"ETag": '"' + "x" * 300 + '"'},
        {"X-Linked-Etag": '"../../../../evil"'},
        {"X-Repo-Commit": "../../../../evil"},
        {"X-Repo-Commit": "/tmp/evil"},
        {"X-Repo-Commit": "main"},
        {"X-Repo-Commit": COMMIT + "0"},
    ],
)
def test_no_answer_leads_out_of_the_cache(
    hub: FakeHub, tmp_path: Path, headers: dict[str, str]
) -> None:
    hub.headers = headers
    with pytest.raises(HubError, match=r"expected (an ETag|a commit) .* is this a model hub"):
        fetch("someone/tiny-gpt2")
    assert not any((tmp_path / "cache").rglob("*"))
    assert not hub.downloads()


def test_the_hooks_of_a_session_are_as_before(hub: FakeHub) -> None:
    fetch("someone/tiny-gpt2")
    hub.headers = {"ETag": '"../evil"'}
    with pytest.raises(HubError):
        fetch("someone/tiny-gpt2", "v1.0")
    assert hub_module.check_answer not in hub_module._hooks(get_session())


def test_a_listing_names_files_beside_the_index_alone(hub: FakeHub, tmp_path: Path) -> None:
    files = hub.models["someone/tiny-gpt2"]
    del files["model.safetensors"]
    files["model.safetensors.index.json"] = b"an index"
    files["model-1.safetensors"] = b"one"
    hub.more_names = [
        "model-/../../../../evil.safetensors",
        "model-..\\evil.safetensors",
        "/model-2.safetensors",
        "../config.json",
        "model-\n.safetensors",
    ]
    snapshot = fetch("someone/tiny-gpt2")
    assert sorted(hub.downloads()) == [
        "config.json",
        "model-1.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]
    assert everything_in(snapshot.folder) == set(hub.downloads())


@pytest.mark.parametrize("name", [3, None, ["x"], {}])
def test_a_listing_of_other_things(hub: FakeHub, name: object) -> None:
    hub.more_names = [name]
    del hub.models["someone/tiny-gpt2"]["model.safetensors"]
    with pytest.raises(HubError, match=hub.endpoint):
        fetch("someone/tiny-gpt2")


@pytest.mark.parametrize(
    "revision",
    [
        "..",
        "../main",
        "a/../b",
        "/main",
        "a//b",
        "",
        "a\0b",
        "a\nb",
        "a b",
        "x" * 300,
        3,
        "\\x",
        "é",
    ],
)
@pytest.mark.parametrize("offline", [True, False])
def test_revisions_that_are_none(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, revision: Any, offline: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(HubError, match="expected the name of a branch or a tag, or a commit"):
        fetch("someone/tiny-gpt2", revision)
    assert not hub.requests


@pytest.mark.parametrize("revision", ["refs/pr/1", "feature/x-1.0+a@b", "a.b_c=d"])
def test_revisions_of_other_names(hub: FakeHub, revision: str) -> None:
    assert_refuses("someone/tiny-gpt2", "no revision", revision=revision)


def test_an_invalid_id_offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_refuses("a--b", "neither a folder here nor a model id")
