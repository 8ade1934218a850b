from __future__ import annotations

import dataclasses
import importlib.util
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer
from tokenizers.models import BPE

from gpt2onnx.errors import InstallationError, VerificationError
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gpt2onnx.export.exporter import export
from gpt2onnx.export.quantization.table import PRECISIONS
from gpt2onnx.export.verification import verify
from gpt2onnx.export.verification.verify import (
    PROMPT,
    STEPS,
    Verification,
    can_verify,
    compare,
    require_packages,
    verify_folder,
)
from gpt2onnx.export.writing.progress import silent
from gpt2onnx.runtime.folder.manifest import MANIFEST
from gpt2onnx.runtime.folder.model_folder import KERNELS_GRAPH
from gpt2onnx.runtime.ort.kernels import OFF, VARIABLE
from tests.checkpoints import make_checkpoint
from tests.raising import raises


def exported(tmp_path: Path, precision: str = "fp32", **options: Any) -> tuple[Checkpoint, Path]:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", **options)
    export(checkpoint, tmp_path / "model", precision=precision, verify=False)
    return open_checkpoint(checkpoint), tmp_path / "model"


def overwrite(folder: Path, value: float) -> None:
    """Put another number in the place of one weight, in the middle of the data file."""
    data = folder / "model.onnx.data"
    with data.open("r+b") as file:
        file.seek(data.stat().st_size // 8 * 4)
        file.write(np.float32(value).tobytes())


def logits(*probabilities: tuple[float, ...]) -> Any:
    return np.log(np.array(probabilities, np.float32))


def test_compare_by_hand() -> None:
    reference = logits((0.5, 0.5), (0.9, 0.1))
    candidate = logits((0.25, 0.75), (0.9, 0.1))
    result = compare(reference, candidate)
    assert result.positions == 2
    assert result.max_difference == pytest.approx(math.log(2))
    assert result.largest_logit == pytest.approx(-math.log(0.1))
    # 0.5 log(0.5 / 0.25) + 0.5 log(0.5 / 0.75) at the first position, nothing at the second
    assert result.mean_kl == pytest.approx((math.log(2) + math.log(2 / 3)) / 4)
    assert result.top_token_agreement == 0.5


def test_a_constant_on_top_changes_no_probability() -> None:
    reference = logits((0.2, 0.3, 0.5))
    result = compare(reference, reference + 100)
    assert result.mean_kl == pytest.approx(0, abs=1e-5)
    assert result.max_difference == pytest.approx(100)


def test_a_verification_in_words() -> None:
    words = str(Verification(128, 0.012345, 20.0, 0.00034567, 0.9765))
    assert words == (
        "128 positions against PyTorch: largest logit difference 0.012, mean KL 0.00035, "
        "top token agrees 97.7%"
    )
    assert str(Verification(1, 0, 0, 0, 1, "they aren't installed")).endswith(
        "; model.kernels.onnx wasn't looked at: they aren't installed"
    )


def test_it_says_why_the_kernels_graph_was_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, OFF)
    checkpoint, folder = exported(tmp_path, "int8")
    found = verify_folder(checkpoint, folder, "int8", silent).unverified
    assert found == "gpt2onnx-kernels is switched off by GPT2ONNX_KERNELS=off"
    (folder / MANIFEST).unlink()
    (folder / KERNELS_GRAPH).unlink()
    assert verify_folder(checkpoint, folder, "int8", silent).unverified is None


@pytest.mark.parametrize(
    ("n_positions", "steps"), [(1, 0), (2, 1), (9, 4), (70, STEPS), (PROMPT + STEPS + 1, STEPS)]
)
def test_models_of_any_length(tmp_path: Path, n_positions: int, steps: int) -> None:
    tracked: list[Any] = []

    def track(items: Any, label: str) -> Any:
        tracked.extend(items)
        return items

    result = verify_folder(*exported(tmp_path, n_positions=n_positions), "fp32", track)
    assert result.positions == min(n_positions, PROMPT + STEPS)
    assert len(tracked) == steps
    assert result.max_difference < 1e-4
    assert result.top_token_agreement == 1


def test_pytorch_heeds_the_options_of_attention(tmp_path: Path) -> None:
    options = {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True}
    assert verify_folder(*exported(tmp_path, **options), "fp32", silent).mean_kl < 1e-9


def test_a_tokenizer_that_makes_nothing_of_the_text(tmp_path: Path) -> None:
    checkpoint, folder = exported(tmp_path)
    mute = Tokenizer(BPE(vocab={"Ω": 0}, merges=[]))
    assert not mute.encode(verify.TEXT).ids
    result = verify_folder(dataclasses.replace(checkpoint, tokenizer=mute), folder, "fp32", silent)
    assert result.positions == 64


@pytest.mark.parametrize("value", [1000, np.nan, np.inf])
def test_one_wrong_weight_is_found(tmp_path: Path, value: float) -> None:
    checkpoint, folder = exported(tmp_path)
    verify_folder(checkpoint, folder, "fp32", silent)
    overwrite(folder, value)
    with pytest.raises(VerificationError, match="the fp32 model doesn't match PyTorch") as raised:
        verify_folder(checkpoint, folder, "fp32", silent)
    assert "\n" not in str(raised.value)


def allowed(monkeypatch: pytest.MonkeyPatch, precision: str, mean_kl: float) -> None:
    bound = dataclasses.replace(PRECISIONS[precision], mean_kl=mean_kl)
    monkeypatch.setitem(PRECISIONS, precision, bound)


def test_only_fp32_has_a_bound_on_the_logits_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, folder = exported(tmp_path, "int8")
    assert verify_folder(checkpoint, folder, "int8", silent).max_difference > 0.05
    allowed(monkeypatch, "fp32", mean_kl=1)
    said = r"expected .* a difference of at most 0\.0"
    with pytest.raises(VerificationError, match=said) as raised:
        verify_folder(checkpoint, folder, "fp32", silent)
    found, expected = raised.value.found, raised.value.expected
    assert found is not None
    assert expected is not None
    assert found > 0.05 > expected


def test_every_precision_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(each.mean_kl > 0 for each in PRECISIONS.values())
    checkpoint, folder = exported(tmp_path, "int4")
    result = verify_folder(checkpoint, folder, "int4", silent)
    allowed(monkeypatch, "int4", mean_kl=result.mean_kl / 2)
    with raises(VerificationError, name="int4", expected=result.mean_kl / 2):
        verify_folder(checkpoint, folder, "int4", silent)


def test_an_int8_cache_has_a_bound_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    made = export(checkpoint, tmp_path / "model", precision="fp32", kv_cache="int8", verify=True)
    assert made.verification is not None
    assert 1e-5 < made.verification.mean_kl < 1e-2
    checked = open_checkpoint(checkpoint), tmp_path / "model", "fp32", silent
    with raises(VerificationError, name="fp32", expected=PRECISIONS["fp32"].mean_kl):
        verify_folder(*checked)
    monkeypatch.setitem(verify.CACHE_KL, "int8", made.verification.mean_kl / 2)
    bound = PRECISIONS["fp32"].mean_kl + made.verification.mean_kl / 2
    with raises(VerificationError, name="fp32", expected=bound):
        verify_folder(*checked, "int8")


def test_transformers_has_nothing_to_complain_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint, folder = exported(tmp_path, dtype="float16")
    transformers.utils.logging.warning_once.cache_clear()
    transformers.utils.logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            verify_folder(checkpoint, folder, "fp32", silent)
    finally:
        transformers.utils.logging.disable_propagation()
    assert not caplog.records


@pytest.mark.parametrize("missing", ["torch", "transformers", "onnxruntime"])
def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    require_packages()
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name)
    )
    assert not can_verify()
    with pytest.raises(InstallationError, match=f"verification needs {missing}: pip install"):
        require_packages()
