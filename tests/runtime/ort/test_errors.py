"""Messages as ONNX Runtime 1.31.1 raises them, on the CPU and on CUDA without a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt2onnx.errors import CorruptModelError, ModelFolderError, ParameterError, ProviderError
from gpt2onnx.runtime.ort.errors import explained, out_of_memory, plain
from gpt2onnx.runtime.ort.provider import KNOWN

CALL = (
    "std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, "
    "const char*, int) [with ERRTYPE = cudaError; bool THRW = true]"
)
NO_DEVICE = (
    f"/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 {CALL} "
    f"/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:146 {CALL} CUDA failure 100: "
    "no CUDA-capable device is detected ; GPU=-1 ; hostname=vm ; file=/onnxruntime_src/x.cc ; "
    "line=355 ; expr=cudaSetDevice(info_.device_id); \n\n"
)
BAD_OPTION = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider_info.cc:63 static "
    "onnxruntime::CUDAExecutionProviderInfo onnxruntime::CUDAExecutionProviderInfo::"
    "FromProviderOptions(const onnxruntime::ProviderOptions&) [ONNXRuntimeError] : 1 : FAIL : "
    'provider_options_utils.h:182 Parse Unknown provider option: "foo".\n'
)
BAD_DEVICE = (
    "[ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h:187 Parse Failed to parse provider "
    'option "device_id": CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; x'
)
NEW_IR = (
    "[ONNXRuntimeError] : 1 : FAIL : Load model from /m/model.onnx failed:/onnxruntime_src/"
    "onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const "
    "onnxruntime::ModelOptions&) Unsupported model IR version: 99, max supported IR version: 13\n"
)
CUT = (
    "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from /m failed:Protobuf parsing failed."
)
NO_KERNEL = (
    "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for "
    "GroupQueryAttention(1) node with name 'attention'"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NO_DEVICE, "CUDA failure 100: no CUDA-capable device is detected"),
        (BAD_OPTION, 'Unknown provider option: "foo"'),
        (NEW_IR, "Unsupported model IR version: 99, max supported IR version: 13"),
        (CUT, "Protobuf parsing failed"),
        ("of another\n  kind", "of another kind"),
    ],
)
def test_codes_and_places_are_left_out(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "provider", "kind"),
    [
        (NO_DEVICE, "cuda", ProviderError),
        (BAD_OPTION, "cuda", ParameterError),
        (BAD_DEVICE, "cuda", ProviderError),
        (NEW_IR, "cuda", ModelFolderError),
        (CUT, "cuda", CorruptModelError),
        (NO_KERNEL, "cuda", ProviderError),
        (NO_KERNEL, "cpu", ModelFolderError),
    ],
)
def test_an_error_is_the_providers_the_models_or_the_callers(
    tmp_path: Path, text: str, provider: str, kind: type
) -> None:
    file = tmp_path / "model.onnx"
    file.touch()
    for model in (file, str(file), b"bytes"):
        error = explained(RuntimeError(text), model, KNOWN[provider], "1.31.1")
        assert type(error) is kind
        assert plain(text) in str(error)


FULL = (
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::"
    "AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory for "
    "requested buffer of size 16384000\n"
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError(FULL), "Failed to allocate memory for requested buffer of size 16384000"),
        (
            RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; x"),
            "CUDA failure 2: out of memory",
        ),
        (MemoryError("std::bad_alloc"), "std::bad_alloc"),
    ],
)
def test_memory_that_ran_out_is_told_as_such(error: Exception, reason: str) -> None:
    told = out_of_memory(error, "cuda")
    assert isinstance(told, MemoryError)
    assert str(told) == (
        f"cuda has no memory left ({reason}): take fewer sequences at once, or shorter ones"
    )


def test_another_error_is_not_the_memorys() -> None:
    assert out_of_memory(RuntimeError(NO_DEVICE), "cuda") is None
