"""Each runtime runs the folder that was written for it, by its README's own code: our texts."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import gpt2onnx
from tests.runtimes.environments import node_modules, python_of, said

pytestmark = pytest.mark.slow
PROMPT = "Once upon a time"  # README's
TOKENS = 20
FOLDERS = [
    ("transformers.js", "int8", "masked"),
    ("transformers.js", "fp32", "portable"),
    ("transformers.js", "int8", "portable"),
    ("transformers.js", "fp32", "masked"),
    ("transformers.js", "int4", "masked"),
    ("genai", "int8", "masked"),
    ("genai", "fp32", "masked"),
    ("genai", "int8", "portable"),
    ("openvino", "fp32", "portable"),
    ("optimum", "int8", "portable"),
    ("optimum", "fp32", "masked"),
    ("onnxruntime", "int8", "fused"),
]


def our_text(folder: Path) -> str:
    model = gpt2onnx.load(folder, startup_cache=False)
    return model.generate(PROMPT, max_new_tokens=TOKENS).text


def code_of(folder: Path) -> str:
    (code,) = re.findall(r"```(?:python|js)\n(.*?)```", (folder / "README.md").read_text(), re.S)
    return str(code)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("runtime", "precision", "graph"), FOLDERS)
def test_the_readmes_code_writes_our_text(
    runtime: str, precision: str, graph: str, exported: Callable[..., Path], tmp_path: Path
) -> None:
    folder = exported(runtime, graph, precision)
    if runtime == "transformers.js":
        (tmp_path / "node_modules").symlink_to(node_modules())
        shutil.copytree(folder, tmp_path / "models" / "gpt2")
        (tmp_path / "run.mjs").write_text(code_of(folder))
        found = said("node", "run.mjs", cwd=tmp_path)
    else:
        if runtime == "optimum":
            pytest.importorskip("optimum.onnxruntime")
        own = runtime in ("onnxruntime", "optimum")
        python = Path(sys.executable) if own else python_of(runtime)
        found = said(python, "-c", code_of(folder), cwd=folder)
    assert found.removesuffix("\n") == our_text(folder)


LOOP = """
import json, sys
import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
if sys.argv[3:]:  # products of rounded weights in single precision, as the graph says
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
session = onnxruntime.InferenceSession(sys.argv[1], options, ["CPUExecutionProvider"])
inputs = {value.name: value.shape for value in session.get_inputs()}
cache = [name for name in inputs if name.startswith("past")]
ids, known = json.loads(sys.argv[2]), 0
fused = "seqlens_k" in inputs
length = 64 if fused else 0
past = {n: np.zeros((1, inputs[n][1], length, inputs[n][3]), np.float32) for n in cache}
for _ in range(20):
    new = len(ids) - known
    feeds = {"input_ids": np.array([ids[known:]]), "position_ids": np.arange(known, len(ids))[None]}
    if fused:
        feeds["seqlens_k"] = np.array([len(ids) - 1], np.int32)
        feeds["total_sequence_length"] = np.array(len(ids), np.int32)
        feeds["logits_index"] = np.array([new - 1])
    else:
        feeds["attention_mask"] = np.ones((1, len(ids)), np.int64)
    logits, *present = session.run(None, {**feeds, **past})
    past, known = dict(zip(cache, present)), len(ids)
    ids.append(int(logits.reshape(-1, logits.shape[-1])[-1].argmax()))
print(json.dumps(ids[-20:]))
"""


@pytest.mark.parametrize(
    ("graph", "precision"), [("fused", "fp32"), ("portable", "fp32"), ("portable", "int8")]
)
def test_the_oldest_onnx_runtime_writes_our_text(
    graph: str, precision: str, exported: Callable[..., Path], tmp_path: Path
) -> None:
    """1.20's MatMulNBits has 4 bits alone: it multiplies out 8, and rounds no activations."""
    graph_file = str(exported("onnxruntime", graph, precision) / "model.onnx")
    ids = "[46, 77, 306, 1043, 266, 267, 760]"
    exact = ["exact"] if precision == "int8" else []
    expected = said(sys.executable, "-c", LOOP, graph_file, ids, *exact, cwd=tmp_path)
    assert said(python_of("oldest"), "-c", LOOP, graph_file, ids, cwd=tmp_path) == expected


def test_openvino_multiplies_out_what_was_rounded(
    exported: Callable[..., Path], tmp_path: Path
) -> None:
    """Unless it rounds activations as well, as ONNX Runtime does, each in its own way."""
    folder = exported("openvino", "portable", "int8")
    hint = '"INFERENCE_PRECISION_HINT": "f32"'
    exact = code_of(folder).replace(hint, f'{hint}, "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"')
    tokenizer = gpt2onnx.load(folder, startup_cache=False).tokenizer
    ids = json.dumps(tokenizer.encode(PROMPT).ids)
    graph = str(folder / "model.onnx")
    expected = json.loads(said(sys.executable, "-c", LOOP, graph, ids, "exact", cwd=tmp_path))
    found = said(python_of("openvino"), "-c", exact, cwd=folder)
    assert found.removesuffix("\n") == tokenizer.decode(expected)
