"""The example in C, compiled and run: Python's tokens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import onnxruntime
import pytest

import gpt2onnx
from gpt2onnx.demo import CHECKPOINT
from tests.runtimes.environments import ROOT

pytestmark = pytest.mark.slow
HEADER = "onnxruntime_c_api.h"
# Where a release archive was unpacked, and where systems put the header.
PLACES = [
    *filter(None, [os.environ.get("ONNXRUNTIME_INCLUDE")]),
    *("/usr/local/include/onnxruntime", "/usr/include/onnxruntime", "/usr/local/include"),
]
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")
TOKENS = 20


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, linked to the library of the installed Python package."""
    include = next((place for place in PLACES if Path(place, HEADER).is_file()), None)
    if include is None:
        pytest.skip(f"no {HEADER}: ONNXRUNTIME_INCLUDE names a release archive's include folder")
    if not shutil.which("cc"):
        pytest.skip("no C compiler is installed")
    folder = tmp_path_factory.mktemp("program")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    named = folder / "libonnxruntime.so.1"  # as it calls itself
    named.symlink_to(library)
    source, made = ROOT / "examples" / "c" / "generate.c", folder / "generate"
    command = ["cc", *FLAGS, f"-I{include}", source, named, f"-Wl,-rpath,{folder}", "-o", made]
    subprocess.run(command, check=True)
    return made


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_it_writes_pythons_tokens(precision: str, program: Path, tmp_path: Path) -> None:
    folder = gpt2onnx.export(CHECKPOINT, tmp_path / "m", precision=precision, verify=False).folder
    model = gpt2onnx.load(folder, startup_cache=False)
    c = json.loads((folder / "config.json").read_text())
    head_dim = c["n_embd"] // c["n_head"]
    sizes = [c["n_layer"], c["n_head"], head_dim, c["vocab_size"], c["n_positions"]]
    for prompt in ("def main():\n", "x", "class Stack:\n    def push(self"):
        ids = model.tokenizer.encode(prompt).ids
        arguments = [folder / "model.onnx", *map(str, [*sizes, TOKENS, *ids])]
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
        made = model.generate(prompt, max_new_tokens=TOKENS, min_new_tokens=TOKENS)
        assert [int(line) for line in done.stdout.split()] == list(made.token_ids)
