from __future__ import annotations

import pytest

from gpt2onnx.compare.measure.opening import provider_options
from tests.compare.jobs import a_job


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({}, {"use_tf32": "0", "enable_cuda_graph": "0"}),
        ({"tf32": True}, {"use_tf32": "1", "enable_cuda_graph": "0"}),
        ({"cuda_graph": True}, {"use_tf32": "0", "enable_cuda_graph": "1"}),
    ],
)
def test_cudas_options_are_cudas_alone(asked: dict[str, bool], options: dict[str, str]) -> None:
    assert provider_options(a_job(provider="cuda", **asked)) == options
    assert provider_options(a_job(provider="cpu", **asked)) == {}
