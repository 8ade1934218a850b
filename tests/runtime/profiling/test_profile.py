"""Profiles of small models: times that belong together, operators that are in the graph."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

import gpt2onnx
from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.decoder.fused import PREFILL_CHUNK
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.profiling import roofline
from gpt2onnx.runtime.profiling.profile import Profile, profile
from gpt2onnx.runtime.profiling.work import Work
from tests.conftest import WIDE

pytestmark = pytest.mark.usefixtures("todays_graph")
PROMPT, CONTEXT, STEPS = 200, 150, 4
LAYERS = 2


@pytest.fixture(autouse=True)
def _short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "ROUND", 1 << 20)


def profiled(folder: Path, prompt: int = PROMPT, context: int = CONTEXT) -> Profile:
    return profile(open_folder(folder), Work(prompt, context, STEPS), "cpu", threads=1)


def kinds(folder: Path) -> dict[str, int]:
    """How often each operator stands in the graph."""
    nodes = [
        node.op_type
        for node in onnx.load(folder / "model.onnx", load_external_data=False).graph.node
    ]
    return {kind: nodes.count(kind) for kind in nodes}


def test_fp32(wide_models: Callable[[str], Path]) -> None:
    folder = wide_models("fp32")
    found = profiled(folder)
    graph = kinds(folder)
    for phase, runs in ((found.prompt, -(-PROMPT // PREFILL_CHUNK)), (found.decode, 1)):
        calls = {each.operator: each.calls for each in phase.operators}
        for operator in ("GroupQueryAttention", "LayerNormalization"):
            assert calls[operator] == graph[operator] * runs
        assert sum(each.share for each in phase.operators) == pytest.approx(1)
        assert sum(each.ms for each in phase.operators) == pytest.approx(phase.operators_ms)
        assert [each.ms for each in phase.operators] == sorted(
            (each.ms for each in phase.operators), reverse=True
        )
        assert phase.measured_ms > 0
        assert phase.ratio == phase.measured_ms / phase.roofline_ms
        assert phase.roofline_ms == pytest.approx(1e3 * phase.bytes_read / found.bandwidth)
        assert phase.bound == "memory"
    assert found.arithmetic is None  # without the kernels


def test_what_is_read(wide_models: Callable[[str], Path], wide_checkpoint: Path) -> None:
    """Every weight but the positions' once, in fp32 and in full; the head is the embedding."""
    found = profiled(wide_models("fp32"))
    width = WIDE["n_embd"]
    vectors = 9 * width + 4 * width  # biases: 3 + 1 + 4 + 1; two layer norms' gain and bias
    layer = 12 * width * width + vectors
    read = 4 * (LAYERS * layer + 2 * width + 257 * width)
    assert found.weight_bytes == pytest.approx(read, rel=0.01)  # constants of shapes come on top
    cache = 4 * 2 * LAYERS * width
    assert found.cache_bytes_per_token == cache
    assert found.prompt.bytes_read == found.weight_bytes + PROMPT * cache
    assert found.decode.bytes_read == found.weight_bytes + (CONTEXT + 1) * cache


def test_int8_reads_less(wide_models: Callable[[str], Path]) -> None:
    fp32, int8 = (profiled(wide_models(precision)) for precision in ("fp32", "int8"))
    assert int8.weight_bytes < 0.4 * fp32.weight_bytes


def test_a_portable_folder(checkpoint: Path, tmp_path: Path) -> None:
    made = gpt2onnx.export(
        checkpoint, tmp_path / "portable", precision="fp32", graph="portable", verify=False
    )
    found = profiled(made.folder, prompt=20, context=10)
    for phase in (found.prompt, found.decode):
        assert {"MatMul", "Gather"} <= {each.operator for each in phase.operators}
        assert sum(each.share for each in phase.operators) == pytest.approx(1)


def test_no_file_is_left(
    models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = models("fp32")
    before = sorted(folder.iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    profiled(folder, prompt=20, context=10)
    assert list(tmp_path.iterdir()) == []
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (Work(65, 1, 1), "prompt_length=65: expected 1 to 64"),
        (Work(0, 1, 1), "prompt_length=0: expected 1 to 64"),
        (Work(64, 64, 1), "context=64: expected 1 to 63"),
        (Work(64, 63, 0), "steps=0: expected 1 to 100,000"),
    ],
)
def test_work_that_a_model_has_no_room_for(
    models: Callable[[str], Path], work: Work, message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        profile(open_folder(models("fp32")), work)
