"""Other runtimes, installed once and kept under .environments/ (or GPT2ONNX_ENVIRONMENTS).

What can't be installed here is a skipped test that says why; it is tried once a run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from benchmarks.environments import Environment, InstallError
from benchmarks.runtimes.environments import make_node_modules
from benchmarks.runtimes.rows import ORT_1_20
from benchmarks.variants import GENAI, OPENVINO

ROOT = Path(__file__).parent.parent.parent
FOLDER = Path(os.environ.get("GPT2ONNX_ENVIRONMENTS", ROOT / ".environments"))
PLUGINS = Environment(
    "plugins",
    (
        *("onnxruntime==1.31.1", "numpy==2.4.6", "tokenizers==0.22.2"),
        *("onnxruntime-ep-openvino==1.8.1", "onnxruntime-ep-webgpu==0.4.0"),
    ),
)
ENVIRONMENTS = {"openvino": OPENVINO, "genai": GENAI, "oldest": ORT_1_20, "plugins": PLUGINS}
NODE = "node"
# Of a text, and of pip or npm installing one of them.
SECONDS = 300


def python_of(runtime: str) -> Path:
    """The interpreter of a runtime's environment."""
    _require(runtime)
    return ENVIRONMENTS[runtime].python(FOLDER)


def node_modules() -> Path:
    """The folder node_modules with NODE and WEB in it."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node.js and npm aren't installed")
    _require(NODE)
    return FOLDER / "node" / "node_modules"


def said(*command: str | Path, cwd: Path) -> str:
    """What a program prints."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _require(name: str) -> None:
    if reason := _missing(name):
        pytest.skip(f"{name} can't be installed here: {reason}")


@cache
def _missing(name: str) -> str | None:
    """Why one can't be installed; makes it if it can."""
    make = make_node_modules if name == NODE else ENVIRONMENTS[name].make
    try:
        make(FOLDER, SECONDS)
    except InstallError as error:
        return str(error)
    return None
