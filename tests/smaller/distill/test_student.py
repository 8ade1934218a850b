from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint, tensor_shapes
from gpt2onnx.smaller.distill.student import student_of
from tests.checkpoints import make_checkpoint


@pytest.mark.parametrize(
    ("of", "layers", "taken"),
    [(12, 6, [0, 2, 4, 7, 9, 11]), (4, 2, [0, 3]), (3, 1, [0]), (3, 3, [0, 1, 2])],
)
def test_the_layers_are_those_that_distilgpt2_took(
    tmp_path: Path, of: int, layers: int, taken: list[int]
) -> None:
    teacher = open_checkpoint(make_checkpoint(tmp_path, n_layer=of, n_embd=8, n_head=2))
    student = student_of(teacher, layers, None)
    assert student.config_json["n_layer"] == student.weights.config.n_layer == layers
    for new, old in enumerate(taken):
        for part in ("attn.c_attn.weight", "mlp.c_proj.bias", "ln_2.weight"):
            expected = teacher.tensor(f"h.{old}.{part}")
            assert np.array_equal(student.weights.tensor(f"h.{new}.{part}"), expected)
    assert np.array_equal(student.weights.tensor("wte.weight"), teacher.tensor("wte.weight"))


def test_queries_are_divided_by_another_place(tmp_path: Path) -> None:
    options = {"scale_attn_by_inverse_layer_idx": True, "n_layer": 4, "n_embd": 8, "n_head": 2}
    teacher = open_checkpoint(make_checkpoint(tmp_path, **options))
    student = student_of(teacher, 2, None).weights
    before, after = (
        teacher.tensor("h.3.attn.c_attn.weight"),
        student.tensor("h.1.attn.c_attn.weight"),
    )
    # The scores were divided by 4, and are by 2 now.
    np.testing.assert_allclose(after[:, :8] / 2, before[:, :8] / 4)
    np.testing.assert_array_equal(after[:, 8:], before[:, 8:])


@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": False, "n_inner": 48}])
def test_a_narrower_one_has_fewer_heads_of_the_same_size(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    teacher = open_checkpoint(make_checkpoint(tmp_path, **options))
    student = student_of(teacher, 1, 16)
    config = student.weights.config
    assert (config.n_embd, config.n_head, config.head_dim) == (16, 2, 8)
    assert config.n_inner == teacher.config.n_inner // 2
    assert {name: values.shape for name, values in student.weights.tensors.items()} == (
        tensor_shapes(config)
    )
    assert all(np.isfinite(values).all() for values in student.weights.tensors.values())


def test_a_stream_that_lies_in_the_directions_is_kept(tmp_path: Path) -> None:
    """Products of embeddings are their own where nothing is cut off, or next to nothing."""
    teacher = open_checkpoint(make_checkpoint(tmp_path))
    wide = teacher.tensor("wte.weight")
    narrow = student_of(teacher, 1, 24).weights.tensor("wte.weight")
    kept = np.linalg.norm(narrow @ narrow.T) / np.linalg.norm(wide @ wide.T)
    assert 0.9 < kept < 1
    singular = np.linalg.svd(wide, compute_uv=False)
    np.testing.assert_allclose(np.linalg.svd(narrow, compute_uv=False), singular[:24], rtol=1e-4)


@pytest.mark.parametrize(
    ("layers", "width", "message"),
    [
        (3, None, "layers=3: expected 1 to 2, as many as the teacher has"),
        (0, None, "layers=0: expected 1 to 2"),
        (True, None, "layers=True: expected"),
        (1, 12, "width=12: expected a multiple of 8, the heads' size, up to 32"),
        (1, 40, "width=40: expected a multiple of 8"),
        (1, 0, "width=0: expected"),
        (1, "16", "width='16': expected"),
    ],
)
def test_what_the_teacher_doesn_t_have(
    checkpoint: Path, layers: Any, width: Any, message: str
) -> None:
    with pytest.raises(ParameterError) as raised:
        student_of(open_checkpoint(checkpoint), layers, width)
    assert str(raised.value).startswith(message)
