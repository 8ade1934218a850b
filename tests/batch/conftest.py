"""Files of lines, answered by the model of 64 positions whose tokens are bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Answers = dict[str, Any]


@pytest.fixture(scope="session")
def folder(models: Callable[[str], Path]) -> str:
    return str(models("fp32"))


@pytest.fixture
def prompts(tmp_path: Path) -> Callable[[int], Path]:
    """A file of so many prompts, no two of which are alike."""

    def make(count: int) -> Path:
        path = tmp_path / "prompts.txt"
        path.write_text(
            "".join(f"{number:04} says" + "o" * (number % 7) + "\n" for number in range(count))
        )
        return path

    return make


def answers(path: Path) -> Answers:
    """What a file of answers or errors says, by custom_id; each must be there once."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = {line["custom_id"]: _timeless(line) for line in lines}
    assert len(found) == len(lines)
    return found


def _timeless(line: Any) -> Any:
    """An answer without the time at which its job began."""
    line["response"]["body"].pop("created", None)
    return line
