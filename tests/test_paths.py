from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gpt2onnx.errors import StorageError
from gpt2onnx.paths import cache_folder


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("GPT2ONNX_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "folder"),
    [
        ("linux", ".cache/gpt2onnx"),
        ("darwin", "Library/Caches/gpt2onnx"),
        ("win32", "AppData/Local/gpt2onnx"),
    ],
)
def test_the_platforms_own_place(
    monkeypatch: pytest.MonkeyPatch, home: Path, platform: str, folder: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == home / folder


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/gpt2onnx"
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_relative_or_empty_xdg_folder_is_ignored(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for value in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == home / ".cache/gpt2onnx"


def test_local_app_data_on_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local/gpt2onnx"


def test_asking_creates_nothing(home: Path) -> None:
    cache_folder()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("value", ["~nosuchuser/x", None])
def test_no_home(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", homeless)
    if value:
        monkeypatch.setenv("GPT2ONNX_CACHE", value)
    with pytest.raises(StorageError, match="set GPT2ONNX_CACHE to a folder that can be written"):
        cache_folder()
