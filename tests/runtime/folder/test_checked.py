from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gpt2onnx.runtime.folder.checked import recall, remember


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checked"


def test_a_folder_has_one_mark_however_often_it_changes(marks: Path, tmp_path: Path) -> None:
    for fingerprint in ("a", "b", "c"):
        assert recall(tmp_path, fingerprint) is None
        remember(tmp_path, fingerprint, 7)
        assert recall(tmp_path, fingerprint) == 7
    assert recall(tmp_path, "a") is None
    assert len(list(marks.iterdir())) == 1


def test_marks_of_folders_that_are_gone_go(marks: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}").mkdir()
        remember(tmp_path / f"{number}", "a", number)
    (marks / "of an older version").touch()
    shutil.rmtree(tmp_path / "0")
    remember(tmp_path, "a", 3)
    assert len(list(marks.iterdir())) == 3
    assert recall(tmp_path / "1", "a") == 1


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_a_name_that_is_no_text(marks: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    remember(folder, "a", 9)
    assert recall(folder, "a") == 9
