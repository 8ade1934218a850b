from __future__ import annotations

import onnxruntime
import pytest

from gpt2onnx.errors import ProviderError
from gpt2onnx.runtime.ort.provider import (
    CPU,
    CUDA,
    KNOWN,
    export_device,
    find_provider,
    first_preferred,
    short_name,
)

NAMES = onnxruntime.get_all_providers()


@pytest.mark.parametrize("name", NAMES)
def test_every_provider_is_found_by_each_of_its_names(name: str) -> None:
    for spelling in (name, short_name(name), short_name(name).upper()):
        assert find_provider(spelling).name == name


def test_the_table_has_onnx_runtimes_names() -> None:
    assert {provider.name for provider in KNOWN.values()} <= {*NAMES}


def test_nothing_special_is_known_of_most() -> None:
    other = find_provider("xnnpack")
    assert (other.device_type, other.export_device, other.obstacle(None)) == ("cpu", "cpu", None)
    assert other.tuning(tf32=True, captures=True) == {}


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(ProviderError, match=r"unknown provider 'gpu': this ONNX Runtime has .*cpu"):
        find_provider("gpu")


def test_the_first_that_is_built_in() -> None:
    built_in = onnxruntime.get_available_providers()
    assert first_preferred("auto") is (CUDA if CUDA.name in built_in else CPU)
    assert first_preferred("CUDA") is CUDA


@pytest.mark.parametrize(
    ("name", "device"),
    [("cuda", "cuda"), ("CUDAExecutionProvider", "cuda"), ("auto", "cpu"), ("no such", "cpu")],
)
def test_what_a_model_is_exported_for(name: str, device: str) -> None:
    assert export_device(name) == device


def test_cudas_options() -> None:
    assert CUDA.tuning(tf32=True, captures=False) == {"use_tf32": "1", "enable_cuda_graph": "0"}
