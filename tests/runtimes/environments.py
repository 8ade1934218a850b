"""Other runtimes, installed once and kept under .environments/ (or GPT2ONNX_ENVIRONMENTS).

What can't be installed here is a skipped test that says why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.environments import InstallError
from benchmarks.runtimes.environments import make_node_modules
from benchmarks.runtimes.rows import ORT_1_20
from benchmarks.variants import GENAI, OPENVINO

ROOT = Path(__file__).parent.parent.parent
FOLDER = Path(os.environ.get("GPT2ONNX_ENVIRONMENTS", ROOT / ".environments"))
ENVIRONMENTS = {"openvino": OPENVINO, "genai": GENAI, "oldest": ORT_1_20}
SECONDS = 300


def python_of(runtime: str) -> Path:
    """The interpreter of a runtime's environment."""
    environment = ENVIRONMENTS[runtime]
    try:
        environment.make(FOLDER)
    except InstallError as error:
        pytest.skip(f"{runtime} can't be installed here: {error}")
    return environment.python(FOLDER)


def node_modules() -> Path:
    """The folder node_modules with NODE and WEB in it."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node.js and npm aren't installed")
    try:
        make_node_modules(FOLDER)
    except InstallError as error:
        pytest.skip(f"npm install failed: {error}")
    return FOLDER / "node" / "node_modules"


def said(*command: str | Path, cwd: Path) -> str:
    """What a program prints."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
