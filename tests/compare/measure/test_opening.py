from __future__ import annotations

import pytest

from gpt2onnx.compare.measure.opening import provider_options


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({}, {"use_tf32": "0", "enable_cuda_graph": "0"}),
        ({"tf32": True}, {"use_tf32": "1", "enable_cuda_graph": "0"}),
        ({"cuda_graph": True}, {"use_tf32": "0", "enable_cuda_graph": "1"}),
    ],
)
def test_cudas_options_are_cudas_alone(asked: dict[str, bool], options: dict[str, str]) -> None:
    job = {"tf32": False, "cuda_graph": False, **asked}
    assert provider_options({**job, "provider": "cuda"}) == options
    assert provider_options({**job, "provider": "cpu"}) == {}
