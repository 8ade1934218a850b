"""A changed export exports anew what lies in the cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gpt2onnx import demo, export_digest
from gpt2onnx.export.cached import CachedExports


def test_a_changed_export_exports_anew(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (demo.folder(), demo.folder("demo-draft"), CachedExports(checkpoint).identity)
    changed = tmp_path / "export"
    shutil.copytree(export_digest.EXPORT, changed)
    monkeypatch.setattr(export_digest, "EXPORT", changed)
    assert before == _again(checkpoint)
    with (changed / "graph" / "fused.py").open("a") as module:
        module.write("\n# a change")
    assert not set(before) & set(_again(checkpoint))


def _again(checkpoint: Path) -> tuple[Path, Path, str]:
    export_digest.export_digest.cache_clear()
    try:
        return (demo.folder(), demo.folder("demo-draft"), CachedExports(checkpoint).identity)
    finally:
        export_digest.export_digest.cache_clear()
