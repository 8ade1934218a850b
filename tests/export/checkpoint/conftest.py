"""Checkpoints with settings of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("source"))


@pytest.fixture
def checkpoint_with(source: Path, tmp_path: Path) -> Callable[..., Path]:
    def made(config: dict[str, Any], generation_config: dict[str, Any] | None) -> Path:
        folder = shutil.copytree(source, tmp_path / "checkpoint")
        whole = json.loads((folder / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(whole))
        (folder / "generation_config.json").unlink()
        if generation_config is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation_config))
        return folder

    return made
