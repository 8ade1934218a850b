"""A checkpoint's JSON files. Knows nothing of what they mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpt2onnx.errors import CheckpointError


def read_json(path: Path, error: type[CheckpointError] = CheckpointError) -> dict[str, Any]:
    """The JSON object in a file. Raises `error` where it can't be read, with the place."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as cause:
        raise error(f"{path}: can't be read: {cause.strerror}") from cause
    except json.JSONDecodeError as cause:
        place = f"line {cause.lineno}, column {cause.colno}"
        raise error(f"{path}: expected JSON, found a mistake at {place}: {cause.msg}") from cause
    except (ValueError, RecursionError) as cause:
        raise error(f"{path}: expected JSON in UTF-8, found something else: {cause}") from cause
    if not isinstance(content, dict):
        raise error(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content
