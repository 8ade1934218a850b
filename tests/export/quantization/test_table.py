from __future__ import annotations

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.export.quantization.table import DEVICES, PRECISIONS, choose

SINGLE, HALF = np.dtype(np.float32), np.dtype(np.float16)


def test_choose_gives_every_precision_its_activations() -> None:
    assert [choose(name, "cpu").dtype for name in PRECISIONS] == [SINGLE, HALF, *[SINGLE] * 3]
    assert [choose(name, "cuda").dtype for name in ("fp16", "int8", "int4")] == [HALF] * 3


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("int3", "cpu", f"precision='int3': expected one of {', '.join(PRECISIONS)}"),
        ("INT8", "cpu", "precision='INT8'"),
        (None, "cpu", "precision=None"),
        ("int8", "tpu", f"device='tpu': expected one of {', '.join(DEVICES)}"),
        ("int8-dynamic", "cuda", "precision='int8-dynamic' has no CUDA kernels"),
    ],
)
def test_choose_refuses_what_does_not_exist(name: str, device: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        choose(name, device)
