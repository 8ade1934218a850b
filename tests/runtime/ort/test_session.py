"""Real models on the CPU, and on CUDA where it runs; CUDA's ways to fail by a fake ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpt2onnx.errors import (
    CorruptModelError,
    InstallationError,
    ModelFolderError,
    ParameterError,
    ProviderError,
)
from gpt2onnx.runtime.machine.threads import default_threads
from gpt2onnx.runtime.ort import library
from gpt2onnx.runtime.ort import provider as provider_module
from gpt2onnx.runtime.ort import session as session_module
from gpt2onnx.runtime.ort.session import Session, TensorSpec, open_session
from tests.raising import raises


def tiny_model(op: str = "MatMul", domain: str = "", opset: int = 17) -> onnx.ModelProto:
    """y = x w, x float32 [batch, 64], w float32 [64, 3]."""
    weight = numpy_helper.from_array(np.ones((64, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], domain=domain)],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [weight],
    )
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(domain, 1)] * bool(domain)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(tiny_model(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """The same model with its weight in model.onnx.data."""
    onnx.save(
        tiny_model(),
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider", "cpuexecutionprovider"])
def test_opens_and_runs_on_the_cpu(model: Path, name: str) -> None:
    session = open_session(model, name)
    assert (session.provider, session.device_type, session.device_id) == ("cpu", "cpu", 0)
    assert session.choice == "cpu, as asked"
    assert session.raw.get_providers() == ["CPUExecutionProvider"]
    (y,) = session.raw.run(None, {"x": np.ones((2, 64), np.float32)})
    np.testing.assert_array_equal(y, np.full((2, 3), 64))


def test_opens_external_data_and_bytes(external: Path) -> None:
    x = {"x": np.ones((1, 64), np.float32)}
    for source in (external, str(external), tiny_model().SerializeToString()):
        assert open_session(source, "cpu").raw.run(None, x)[0][0, 0] == 64


def test_inputs_and_outputs_are_described(model: Path) -> None:
    session = open_session(model, "cpu")
    assert session.inputs == {"x": TensorSpec(np.dtype(np.float32), ("batch", 64))}
    assert session.outputs == {"y": TensorSpec(np.dtype(np.float32), ("batch", 3))}


@pytest.mark.parametrize("name", ["bool", "float16", "int8", "int32", "int64", "uint8", "double"])
def test_types_are_numpys(name: str) -> None:
    number = getattr(TensorProto, name.upper())
    value = [helper.make_tensor_value_info(end, number, [None, 2]) for end in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", *zip(value))
    opset = [helper.make_opsetid("", 17)]
    data = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    assert open_session(data, "cpu").inputs["x"] == TensorSpec(np.dtype(name), ("?", 2))


def test_a_type_that_numpy_lacks_is_refused() -> None:
    value = [helper.make_tensor_value_info(end, TensorProto.BFLOAT16, [2]) for end in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", *zip(value))
    opset = [helper.make_opsetid("", 17)]
    data = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    with pytest.raises(ModelFolderError, match=r"x is a tensor\(bfloat16\)"):
        open_session(data, "cpu")


def test_threads_sleep_soon_after_a_run(model: Path) -> None:
    options = open_session(model, "cpu").raw.get_session_options()
    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == "20"


def test_threads_are_what_was_asked_for_or_what_the_process_may_use(model: Path) -> None:
    for threads, expected in [(None, default_threads()), (1, 1), (3, 3)]:
        options = open_session(model, "cpu", threads=threads).raw.get_session_options()
        assert options.intra_op_num_threads == expected
        assert options.inter_op_num_threads == 1
        assert options.log_severity_level == 4  # what goes wrong is raised


@pytest.mark.parametrize("saturates", [False, True])
def test_int8_stays_exact_where_the_processor_would_saturate(
    model: Path, monkeypatch: pytest.MonkeyPatch, saturates: bool
) -> None:
    found = SimpleNamespace(saturates_int8=saturates)
    monkeypatch.setattr("gpt2onnx.runtime.ort.packing.processor", lambda: found)
    options = open_session(model, "cpu").raw.get_session_options()
    key = "session.x64quantprecision"
    if saturates:
        assert options.get_session_config_entry(key) == "1"
    else:
        with pytest.raises(RuntimeError, match=key):
            options.get_session_config_entry(key)


def test_allocates_on_the_device(model: Path) -> None:
    value = open_session(model, "cpu").allocate([2, 5], np.dtype(np.float16))
    assert (value.device_name(), value.shape(), value.numpy().dtype) == ("cpu", [2, 5], np.float16)


def damaged(kind: str, file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "short of a byte": whole[:-1],
            "empty": b"",
            "another file": b"<html>404</html>",
            "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        }[kind]
    )


@pytest.mark.parametrize(
    "kind", ["truncated", "short of a byte", "empty", "another file", "git-lfs"]
)
def test_a_damaged_file_is_named_in_one_line(model: Path, kind: str) -> None:
    damaged(kind, model)
    for provider in ("cpu", "auto"):
        with pytest.raises(CorruptModelError) as raised:
            open_session(model, provider)
        message = str(raised.value)
        assert message.startswith(f"{model} is ")
        assert "\n" not in message
        assert "ONNXRuntimeError" not in message
        assert ("git lfs pull" in message) == (kind == "git-lfs")


@pytest.mark.parametrize("size", [None, 0, 100])
def test_lost_or_truncated_external_data_is_damage(external: Path, size: int | None) -> None:
    data = external.with_name("model.onnx.data")
    if size is None:
        data.unlink()
    else:
        with data.open("r+b") as opened:
            opened.truncate(size)
    with pytest.raises(CorruptModelError, match="External"):
        open_session(external, "cpu")


def test_no_file_is_no_model_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "model.onnx", tmp_path):
        with pytest.raises(ModelFolderError, match="there is no such file"):
            open_session(path, "cpu")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"op": "NoSuchOp"}, "No Op registered for NoSuchOp"),
        (
            {"op": "NoSuchOp", "domain": "com.microsoft"},
            r"com\.microsoft:NoSuchOp\(-1\) is not a registered",
        ),
        ({"opset": 99}, r"ONNX Runtime only \*guarantees\* .* Opset 99"),
    ],
)
def test_what_onnxruntime_cannot_run_is_said_in_one_line(changed: dict, reason: str) -> None:
    model = tiny_model(**changed).SerializeToString()
    with pytest.raises(ModelFolderError, match=reason) as raised:
        open_session(model, "cpu")
    message = str(raised.value)
    version = onnxruntime.__version__
    assert message.startswith(f"the model can't be run by ONNX Runtime {version}: ")
    assert "onnxruntime_src" not in message
    assert "\n" not in message


def test_kernels_that_are_too_old_say_so() -> None:
    model = tiny_model(op="NoSuchOp", domain="gpt2onnx").SerializeToString()
    with pytest.raises(ModelFolderError, match="the installed gpt2onnx-kernels doesn't have"):
        open_session(model, "cpu")


def test_providers_that_cannot_run_say_why(model: Path) -> None:
    with raises(ProviderError, name="gpu"):
        open_session(model, "gpu")
    with raises(ProviderError, name="coreml"):
        open_session(model, "coreml")


@pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime has no provider that takes no nodes",
)
def test_a_provider_that_leaves_all_nodes_to_the_cpu_is_refused(model: Path) -> None:
    with raises(ProviderError, name="azure"):
        open_session(model, "azure")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads=0: expected an integer from 1 to"),
        ({"provider": "cpu", "provider_options": {"use_tf32": 1}}, "no options, got use_tf32"),
        ({"provider": "auto", "provider_options": {"device_id": 1}}, "belong to one provider"),
    ],
)
def test_parameters_without_meaning_are_refused(model: Path, options: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        open_session(model, **options)


def test_importing_the_runtime_does_not_import_onnxruntime() -> None:
    code = "import sys, gpt2onnx.runtime.ort.session; assert 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_an_onnxruntime_that_cannot_be_imported_is_an_installation_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library, "require_onnxruntime", lambda: "onnxruntime 1.31.1")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    library.onnxruntime.cache_clear()
    with pytest.raises(InstallationError, match=r"onnxruntime 1\.31\.1 can't be imported"):
        library.onnxruntime()


class FakeOnnxRuntime:
    """An onnxruntime-gpu whose sessions place `nodes` (provider, operator), or raise `error`."""

    package_name, __version__, cuda_version = "onnxruntime-gpu", "1.31.1", "13.0"
    __file__ = "/fake/onnxruntime/__init__.py"
    SessionOptions = onnxruntime.SessionOptions

    def __init__(self, nodes: list[tuple[str, str]], error: str = "", silent: bool = False) -> None:
        self.nodes, self.error, self.silent = nodes, error, silent
        self.opened: list[tuple[str, dict[str, str]]] = []
        self.searched: list[str | None] = []

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    get_all_providers = get_available_providers

    def preload_dlls(self, directory: str | None = None) -> None:
        self.searched.append(directory)
        print("Failed to load libcublas.so.13")

    def InferenceSession(self, model, options, providers, enable_fallback, disabled_optimizers):  # noqa: N802
        assert not enable_fallback
        self.opened += providers
        name = providers[0][0]
        if self.error and name != "CPUExecutionProvider":
            raise RuntimeError(self.error)
        used = [] if self.silent else [name]
        parts = [
            SimpleNamespace(ep_name=where, get_nodes=lambda op=op: [SimpleNamespace(op_type=op)])
            for where, op in self.nodes
        ]
        return SimpleNamespace(
            get_providers=lambda: [*used, "CPUExecutionProvider"],
            get_provider_graph_assignment_info=lambda: parts,
            get_inputs=list,
            get_outputs=list,
        )


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
WORK = [(CUDA, "MatMul"), (CUDA, "GroupQueryAttention")]


def fake(monkeypatch: pytest.MonkeyPatch, *arguments, obstacle: str | None = None, **more):
    runtime = FakeOnnxRuntime(*arguments, **more)
    monkeypatch.setattr(library, "onnxruntime", lambda: runtime)
    monkeypatch.setattr(provider_module, "cuda_obstacle", lambda capi, built_for: obstacle)
    return runtime


@pytest.mark.parametrize("asked", ["auto", "cuda", "CUDAExecutionProvider"])
def test_cuda_is_opened_in_full_fp32(monkeypatch, model: Path, asked: str, capsys) -> None:
    runtime = fake(monkeypatch, [*WORK, (CPU, "Gather")])
    session = open_session(model, asked)
    assert (session.provider, session.device_type, session.device_id) == ("cuda", "cuda", 0)
    assert runtime.opened == [(CUDA, {"use_tf32": "0"})]
    assert session.choice.startswith("cuda, ")
    assert session.choice.endswith(": 2 of 3 nodes, on the CPU 1 Gather")
    assert capsys.readouterr().out == ""


def test_cudas_libraries_are_found_beside_no_onnxruntime(
    monkeypatch, model: Path, tmp_path: Path
) -> None:
    """They may lie in another folder of sys.path than ONNX Runtime, where it doesn't look."""
    folders = [tmp_path / "nvidia" / name / "lib" for name in ("cu13", "cudnn")]
    for folder in folders:
        folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    runtime = fake(monkeypatch, WORK)
    open_session(model, "cuda")
    assert set(map(str, folders)) <= set(runtime.searched)
    assert runtime.searched[-1] is None  # where ONNX Runtime and the system look


def test_cudas_options_are_passed_on(monkeypatch, model: Path) -> None:
    runtime = fake(monkeypatch, WORK)
    session = open_session(model, "cuda", {"device_id": 1, "use_tf32": 1})
    assert runtime.opened == [(CUDA, {"use_tf32": "1", "device_id": "1"})]
    assert session.device_id == 1


@pytest.mark.parametrize(
    ("value", "captures"), [(1, True), ("true", True), (True, True), (0, False)]
)
def test_a_session_knows_whether_runs_are_captured(
    monkeypatch, model: Path, value: object, captures: bool
) -> None:
    fake(monkeypatch, WORK)
    assert open_session(model, "cuda", {"enable_cuda_graph": value}).captures == captures


def test_runs_are_captured_only_where_they_are_numbered(monkeypatch, model: Path) -> None:
    runtime = fake(monkeypatch, WORK)
    session_module._run_options.cache_clear()
    session = open_session(model, "cuda", {"enable_cuda_graph": 1})
    graphs = []
    session.raw.run_with_iobinding = lambda binding, options: graphs.append(
        options.get_run_config_entry("gpu_graph_id")
    )
    runtime.RunOptions = onnxruntime.RunOptions
    session.run("binding")
    session.run("binding", 7)
    assert graphs == ["-1", "7"]


def test_cuda_graphs_that_a_model_cannot_have(monkeypatch, model: Path) -> None:
    error = "This session cannot use the graph capture feature as requested by the user as x"
    fake(monkeypatch, WORK, error=error)
    with pytest.raises(
        ParameterError,
        match=r"enable_cuda_graph .* leave it out, or use a model of .*--device cuda",
    ):
        open_session(model, "cuda", {"enable_cuda_graph": 1})


REFUSALS = {
    "a library is missing": {"nodes": WORK, "obstacle": "a library is missing (libcublas.so.13)"},
    "left it out": {"nodes": [(CPU, "MatMul")], "silent": True},
    "takes none of the 1 nodes": {"nodes": [(CPU, "Add")]},
    "leaves GroupQueryAttention to the CPU": {
        "nodes": [(CUDA, "MatMul"), (CPU, "GroupQueryAttention")]
    },
    "CUDA failure 2: out of memory$": {
        "nodes": WORK,
        "error": "/onnxruntime_src/onnxruntime/core/cuda_call.cc:154 bool onnxruntime::CudaCall("
        "ERRTYPE, int) [with ERRTYPE = cudaError; bool THRW = true] CUDA failure 2: out of memory "
        "; GPU=0 ; hostname=me ; file=x.cc ; line=1 ; expr=cudaMalloc(); \n",
    },
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_cuda_never_becomes_the_cpu_unasked(monkeypatch, model: Path, reason: str) -> None:
    fake(monkeypatch, **REFUSALS[reason])
    with pytest.raises(ProviderError, match=reason):
        open_session(model, "cuda")


@pytest.mark.parametrize("reason", REFUSALS)
def test_auto_takes_the_cpu_and_says_why(monkeypatch, model: Path, reason: str) -> None:
    fake(monkeypatch, **REFUSALS[reason])
    session = open_session(model)
    assert session.provider == "cpu"
    assert session.choice.startswith("cpu, chosen because cuda ")
    assert reason.rstrip("$") in session.choice


def test_an_option_that_cuda_does_not_have_is_a_parameter_error(monkeypatch, model: Path) -> None:
    error = (
        "/onnxruntime_src/core/providers/cuda/info.cc:63 static Info onnxruntime::Info::From(const "
        "Options&) [ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h:182 Parse Unknown "
        'provider option: "speed".\n'
    )
    fake(monkeypatch, WORK, error=error)
    with pytest.raises(ParameterError, match=r'cuda: Unknown provider option: "speed"$'):
        open_session(model, "cuda", {"speed": 9})


@pytest.fixture
def cuda_session(model: Path) -> Session:
    return open_session(model, "cuda")


@pytest.mark.cuda
def test_runs_on_a_cuda_device(cuda_session: Session) -> None:
    x = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
    (y,) = cuda_session.raw.run(None, {"x": x})
    np.testing.assert_allclose(y, x @ np.ones((64, 3), np.float32), rtol=1e-5)
    assert cuda_session.choice == "cuda, as asked: 1 of 1 nodes"
    assert cuda_session.allocate([4], np.dtype(np.float32)).device_name() == "cuda"


@pytest.mark.cuda
def test_cuda_refuses_an_option_it_does_not_have(cuda_session: Session, model: Path) -> None:
    with pytest.raises(ParameterError, match="Unknown provider option"):
        open_session(model, "cuda", {"speed": 9})


def test_what_is_done_meanwhile(model: Path) -> None:
    done: list[bool] = []
    session = open_session(model, "cpu", meanwhile=lambda: done.append(True))
    assert done == [True]
    assert session.provider == "cpu"


def test_what_fails_meanwhile_is_raised_as_it_is(model: Path) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_session(model, "cpu", meanwhile=fail)
