"""tests.cuda.launches: what it reads of a record; the stand-in itself where it can be built.

The stand-in wants onnxruntime-gpu, CUDA's headers and g++: CONTRIBUTING.md tells how.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from tests.checkpoints import make_checkpoint
from tests.cuda import launches
from tests.cuda.stand_in import build
from tests.cuda.stand_in import record as recorded

ROOT = Path(__file__).parents[2]
UNSUPPORTED = 900  # cudaErrorStreamCaptureUnsupported
RECORD = """\
allocation	1048576	cudaMalloc
part	0	opening
to the device	4608	cudaMemcpy
part	0	prompt
kernel	0	void onnxruntime::cuda::softmax<4, float>(float*, int)
part	0	prompt
kernel	0	void onnxruntime::cuda::softmax<4, float>(float*, int)
kernel	0	onnxruntime::contrib::cuda::GetSequenceLengths(int const*, bool)
product	0	cublasGemmEx
from the device	1028	cudaMemcpyAsync
part	0	step 1
captured kernel	0	void onnxruntime::cuda::(anonymous namespace)::f<(Way)1, g<1> >(int (*)(int))
captured product	0	cublasGemmEx
captured memset	48	cudaMemset
graph	0	cudaGraphLaunch
part	0	step 2
to the device	8	cudaMemcpy
to the device	4	cudaMemcpy
graph	0	cudaGraphLaunch
synchronization	0	cudaStreamSynchronize
part	0	greedy step 1
from the device	96	cudaMemcpy
part	0	closing
"""


def watched(record: str = RECORD, captures: bool = True, failure: str = "") -> Any:
    parts = recorded.parts(record.splitlines())
    said = "cuda, as asked: 3 of 3 nodes"
    return launches.Watched(Path("models/small"), 2, 32, captures, said, parts, failure)


def test_a_prompt_a_warm_step_and_its_graph_are_counted() -> None:
    assert list(launches.report([watched()], kernels=True))[2:] == [
        "- small: cuda, as asked: 3 of 3 nodes",
        "",
        "|  | kernels | cuBLAS products | memsets | copies on the device | to the device | from it "
        "| synchronizations | allocations | graphs |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| small, a prompt of 32 | 2 | 1 | 0 | 0 | 0 | 1 (1,028 B) | 0 | 0 | 0 |",
        "| small, 2 rows, a step | 0 | 0 | 0 | 0 | 2 (12 B) | 0 | 1 | 0 | 1 |",
        "| small, 2 rows, a greedy step | 0 | 0 | 0 | 0 | 0 | 1 (96 B) | 0 | 0 | 0 |",
        "| small, 2 rows, its graph | 1 | 1 | 1 (48 B) | 0 | 0 | 0 | 0 | 0 | 0 |",
        "",
        "| small, 2 rows: kernel | a prompt | a step |",
        "| --- | --- | --- |",
        "| `f<(Way)1, g<1> >` | 0 | 1 |",
        "| `GetSequenceLengths` | 1 | 0 |",
        "| `softmax<4, float>` | 1 | 0 |",
    ]
    assert list(watched().faults()) == []


def test_what_cuda_would_refuse_is_told_wherever_it_happens() -> None:
    refused = "refused\t0\tcudaMalloc while capturing\n"
    found = watched(RECORD.replace("captured memset", refused * 2 + "captured memset"))
    assert list(found.faults()) == ["refused in step 1, 2 x: cudaMalloc while capturing"]


def test_a_step_that_was_to_be_one_graph_has_no_kernels_beside_it() -> None:
    record = RECORD.replace("part\t0\tgreedy", "kernel\t0\tf()\npart\t0\tgreedy")
    assert list(watched(record, captures=False).faults()) == []
    (fault,) = watched(record).faults()
    assert fault == "a step is 1 graphs and 1 kernels: expected one graph alone"


def test_a_model_that_failed_has_no_row() -> None:
    found = watched("part\t0\topening", failure="ended with 1: it broke")
    assert list(found.faults()) == ["ended with 1: it broke"]
    assert not any("small" in line for line in launches.report([found], kernels=True))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("cublasGemmStridedBatchedEx", 'cuda_stand_in_record("product", '),
        ("cublasLtMatmul", 'cuda_stand_in_record("product", '),
        ("cublasLtMatmulDescCreate", "calloc"),
        ("cudaEventCreateWithFlags", "calloc"),
        ("cudaGraphInstantiate", "calloc"),
        ("cublasSetStream_v2", "() { return 0; }"),
        ("__cudaUnregisterFatBinary", "() { return 0; }"),
        ("cudaMemPoolDestroy", "() { return 0; }"),
        ("cublasSgetrfBatched", "cuda_stand_in_lacks("),
        ("cudaMemcpyPeer", "cuda_stand_in_lacks("),
        ("cublasLtMatmulAlgoGetHeuristic", "cuda_stand_in_lacks("),
    ],
)
def test_functions_pass_by_their_names_or_are_lacking(name: str, body: str) -> None:
    assert body in build.rest_of([name]).partition(name)[2]


def test_versions_are_the_libraries_names_and_the_driver_has_none() -> None:
    wanted = {"libcudart.so.13": ["cudaFree"], "libcurand.so.10": [], "libcuda.so.1": ["cuInit"]}
    assert build.version_script(wanted) == (
        "libcudart.so.13 {\n  cudaFree;\n};\nlibcurand.so.10 {\n};\n"
    )


def test_what_is_missing_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        build.MissingError, match=r"CUDA 99's headers are not installed: pip install"
    ):
        build.headers(99)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(build.MissingError, match=r"nm is missing: install g\+\+ and binutils"):
        build._defined(Path("any.o"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(build.MissingError, match=r"onnxruntime-gpu is not installed: pip install"):
        build.provider()


def test_a_library_that_wants_no_cuda_is_refused() -> None:
    with pytest.raises(build.BuildError, match=r"readelf"):
        build.symbols(Path(__file__))


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in for the provider that is installed."""
    out = tmp_path_factory.mktemp("stand-in")
    try:
        build.build(build.provider(), out)
    except build.MissingError as error:
        pytest.skip(str(error))
    return out


def test_waiting_and_allocating_inside_a_capture_are_refused(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_STAND_IN_RECORD", str(tmp_path / "record"))
    cuda = ctypes.CDLL(str(stand_in / "libcudart.so.13"))
    stream, graph, block = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    size = ctypes.c_size_t(64)
    assert cuda.cudaMalloc(ctypes.byref(block), size) == 0
    assert cuda.cudaStreamCreateWithFlags(ctypes.byref(stream), 1) == 0
    assert cuda.cudaStreamBeginCapture(stream, 0) == 0
    assert cuda.cudaMemsetAsync(block, 0, size, stream) == 0
    assert cuda.cudaMemsetAsync(block, 0, size, None) == UNSUPPORTED
    assert cuda.cudaStreamSynchronize(stream) == UNSUPPORTED
    assert cuda.cudaMalloc(ctypes.byref(ctypes.c_void_p()), size) == UNSUPPORTED
    assert cuda.cudaStreamEndCapture(stream, ctypes.byref(graph)) == 0
    assert cuda.cudaStreamSynchronize(stream) == 0
    (part,) = recorded.parts((tmp_path / "record").read_text().splitlines())
    assert [(event.kind, event.bytes, event.name) for event in part.events] == [
        ("allocation", 64, "cudaMalloc"),
        ("captured memset", 64, "cudaMemsetAsync"),
        ("refused", 0, "cudaMemsetAsync while capturing"),
        ("refused", 0, "cudaStreamSynchronize while capturing"),
        ("refused", 0, "cudaMalloc while capturing"),
        ("synchronization", 0, "cudaStreamSynchronize"),
    ]


def test_a_model_runs_and_its_steps_are_one_graph(stand_in: Path, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_embd=128, n_head=2, n_positions=64)
    model = gpt2onnx.export(
        checkpoint, tmp_path / "fp16", precision="fp16", device="cuda", verify=False
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.cuda.launches", model.folder, "--cuda-graph", "--kernels"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cells = {line.split(" | ")[0]: line.split(" | ")[1:] for line in done.stdout.splitlines()}
    assert cells["| fp16, 1 row, a step"][:2] == ["0", "0"]
    assert cells["| fp16, 1 row, a step"][-1] == "1 |"
    assert int(cells["| fp16, 1 row, its graph"][1]) == 4 * 2 + 1  # products of 2 layers, the head
    assert cells["| `H64::grp1_fp16::kernel_mha`"] == ["0", "2 |"]  # an attention a layer
