"""tests.cuda.on_host: what ONNX Runtime's CUDA provider answers where the host computes.

Wants what test_launches.py wants; the answers are compared with those of the CPU provider.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import gpt2onnx
from gpt2onnx import demo
from tests.checkpoints import make_checkpoint
from tests.cuda.stand_in import build

ROOT = Path(__file__).parents[2]
SCRIPT = [sys.executable, "-m", "tests.cuda.on_host"]
PROVIDERS = (
    ["--provider", "cpu"],
    ["--provider", "cuda"],
    ["--provider", "cuda", "--provider-option", "enable_cuda_graph=1"],
)
Run = Callable[..., subprocess.CompletedProcess[str]]


def run(
    command: Sequence[str | Path], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        timeout=240,
    )


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with the stand-in that computes, and the environment of a process that is on it."""
    out = tmp_path_factory.mktemp("stand-in")
    try:
        names = build.build(build.provider(), out, computes=True)
    except build.MissingError as error:
        pytest.skip(str(error))
    return out, build.environment(out, names)


@pytest.fixture(scope="module")
def python(stand_in: tuple[Path, dict[str, str]]) -> Run:
    """Runs Python with these arguments, and more of an environment, on the stand-in."""
    return lambda *arguments, **more: run([sys.executable, *arguments], stand_in[1] | more)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model for CUDA in fp32, whose logits are the CPU's but for rounding."""
    out = tmp_path_factory.mktemp("models") / "model"
    return gpt2onnx.export(
        demo.CHECKPOINT, out, precision="fp32", device="cuda", verify=False
    ).folder


def test_what_is_captured_is_done_when_its_graph_is_launched(
    stand_in: tuple[Path, dict[str, str]],
) -> None:
    cuda = ctypes.CDLL(str(stand_in[0] / "libcudart.so.13"))
    stream, graph, run, block = (ctypes.c_void_p() for _ in range(4))
    size = ctypes.c_size_t(4)
    assert cuda.cudaMalloc(ctypes.byref(block), size) == 0
    assert block.value
    assert cuda.cudaStreamCreateWithFlags(ctypes.byref(stream), 1) == 0
    assert cuda.cudaMemset(block, 7, size) == 0
    assert cuda.cudaStreamBeginCapture(stream, 0) == 0
    assert cuda.cudaMemsetAsync(block, 9, size, stream) == 0
    assert cuda.cudaStreamEndCapture(stream, ctypes.byref(graph)) == 0
    assert cuda.cudaGraphInstantiate(ctypes.byref(run), graph, ctypes.c_ulonglong(0)) == 0
    assert cuda.cudaGraphDestroy(graph) == 0
    seen = []
    for value in (9, 8):
        seen.append(ctypes.string_at(block.value, 4))
        assert cuda.cudaGraphLaunch(run, stream) == 0
        seen.append(ctypes.string_at(block.value, 4))
        assert cuda.cudaMemset(block, value - 1, size) == 0
    assert seen == [bytes([n] * 4) for n in (7, 9, 8, 9)]


def test_the_answers_are_the_cpus(python: Run) -> None:
    tests = ROOT / "tests" / "runtime" / "test_on_cuda.py"
    done = python("-m", "pytest", tests, "-k", "not portable", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_the_bundled_models_texts_are_the_cpus(python: Run, model: Path) -> None:
    for settings in ([], ["--do-sample", "--seed", "3", "--num-return-sequences", "3"]):
        texts = []
        for provider in PROVIDERS:
            wanted = ["import os", "--model", model, "--max-new-tokens", "40", *settings]
            done = python("-m", "gpt2onnx", "generate", *wanted, *provider)
            assert done.returncode == 0, done.stderr
            texts.append(done.stdout)
        assert texts[0].strip()
        assert texts == texts[:1] * len(PROVIDERS)


def test_a_full_device_is_told_and_used_on(python: Run, model: Path) -> None:
    """The cache of 16 rows doesn't fit, one row's does, and is written to as if nothing was."""
    asks = f"""
import gpt2onnx
model = gpt2onnx.load({str(model)!r}, "cuda")
try:
    model.generate(["x"] * 16, max_new_tokens=1000)
except gpt2onnx.errors.OutOfMemoryError as error:
    print(error)
same = [model.generate("import os", max_new_tokens=9).text]
same += [gpt2onnx.load({str(model)!r}, "cpu").generate("import os", max_new_tokens=9).text]
print(same[0] == same[1])
"""
    done = python("-c", asks, CUDA_STAND_IN_MEMORY="60000000")
    assert done.returncode == 0, done.stderr
    told, same = done.stdout.splitlines()
    assert told.startswith("cuda has no memory left (Failed to allocate memory for requested")
    assert same == "True"


def test_what_is_not_computed_fails_by_its_name(python: Run, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    model = gpt2onnx.export(
        checkpoint, tmp_path / "portable", graph="portable", precision="fp32", verify=False
    ).folder
    done = python("-m", "gpt2onnx", "generate", "x", "--model", model, "--provider", "cuda")
    assert done.returncode != 0
    assert re.search(r"the stand-in for CUDA doesn't compute _\w+<.+>\(", done.stderr)


def test_the_command_runs_in_its_environment(stand_in: tuple[Path, dict[str, str]]) -> None:
    asks = "import os; print(os.environ['LD_PRELOAD']); raise SystemExit(5)"
    done = run([*SCRIPT, sys.executable, "-c", asks], {})
    assert (done.returncode, done.stdout.strip()) == (5, stand_in[1]["LD_PRELOAD"])


def test_without_a_command_it_says_what_it_wants() -> None:
    done = run(SCRIPT, {})
    assert done.returncode == 1
    assert "tests.cuda.on_host COMMAND" in done.stderr
