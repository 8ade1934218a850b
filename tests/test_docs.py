"""The examples of the documentation give what it says."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llguidance", reason="the examples of structure need [guided]")
    monkeypatch.chdir(tmp_path)
    failed, examples = doctest.testfile(str(DOCS / "decoding.md"), module_relative=False)
    assert examples > 40
    assert failed == 0
