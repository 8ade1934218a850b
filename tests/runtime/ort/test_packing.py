from __future__ import annotations

from pathlib import Path

import pytest

from gpt2onnx.runtime.ort.packing import is_aligned


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([], True),
        (["MatMulNBits+95|38600704;48248286;0"], True),
        (["MatMulNBits+95|38600704;48248286;0", "MatMulNBits+7|16450;20806;0"], False),
        (["MatMulNBits+95|64;10;0|96;10;0"], False),
    ],
)
def test_packed_matrices_must_lie_at_multiples_of_64(
    tmp_path: Path, places: list[str], expected: bool
) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"\x0aoffset 13 length 7" + "\x12".join(places).encode() + b"\xff")
    assert is_aligned(graph) is expected
