"""Merged checkpoints beside PEFT's own merge, over what PEFT trains and saves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GPT2LMHeadModel

import gpt2onnx
from gpt2onnx.errors import AdapterError, WeightsError
from gpt2onnx.export.checkpoint.adapter import open_adapters
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gpt2onnx.export.checkpoint.merging import with_adapters
from gpt2onnx.export.verification.torch_model import TorchModel
from tests.checkpoints import make_checkpoint
from tests.export.logits import exported_logits, load_reference, open_exported, reference_logits
from tests.raising import raises

IDS = np.arange(3, 60)
ATTENTION: dict[str, Any] = {"target_modules": ["c_attn"]}

OPTIONS: dict[str, dict[str, Any]] = {
    "attention": ATTENTION,
    "every matrix": {"target_modules": "all-linear", "r": 3, "lora_alpha": 17},
    "by a pattern": {"target_modules": r".*\.(attn\.c_proj|mlp\.c_fc)"},
    "rsLoRA": {**ATTENTION, "r": 16, "lora_alpha": 24, "use_rslora": True},
    "fan_in_fan_out": {**ATTENTION, "fan_in_fan_out": True},
    "dropout": {**ATTENTION, "lora_dropout": 0.3},
    "ranks and alphas by patterns": {
        "target_modules": ["c_attn", "c_proj", "c_fc"],
        "rank_pattern": {r"^transformer\.h\.0\.attn\.c_attn": 2, "c_proj": 5, "mlp.c_proj": 6},
        "alpha_pattern": {r"h\.1\..*": 3.5, "attn": 100, "mlp.c_fc": 1},
    },
    "rsLoRA by patterns": {
        "target_modules": ["c_attn", "c_fc"],
        "use_rslora": True,
        "rank_pattern": {"c_fc": 2},
        "alpha_pattern": {"c_attn": 3},
    },
    "some layers": {**ATTENTION, "layers_to_transform": [1], "layers_pattern": "h"},
    "all but some": {"target_modules": ["c_attn", "c_proj"], "exclude_modules": ["mlp.c_proj"]},
    "all biases": {**ATTENTION, "bias": "all"},
    "LoRA's biases": {"target_modules": ["c_proj"], "bias": "lora_only"},
    "biases of its own": {"target_modules": ["c_attn", "c_fc"], "lora_bias": True},
    "norms saved whole": {**ATTENTION, "modules_to_save": ["ln_1", "ln_f"]},
    "feed-forward saved whole": {**ATTENTION, "modules_to_save": ["mlp"]},
    "positions": {"target_modules": ["wpe"]},
    "embedding saved whole": {**ATTENTION, "modules_to_save": ["wte"]},
    "head saved whole": {**ATTENTION, "modules_to_save": ["lm_head"]},
    "gaussian": {**ATTENTION, "init_lora_weights": "gaussian"},
    "orthogonal": {**ATTENTION, "init_lora_weights": "orthogonal"},
    "mica": {**ATTENTION, "init_lora_weights": "mica"},
}


@contextmanager
def quiet() -> Iterator[None]:
    """PEFT warns of Conv1D, of tied embeddings, and of a hub that it can't ask."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def train(source: Path, folder: Path, seed: int = 0, save: Any = None, **options: Any) -> Path:
    """Save an adapter whose trained tensors are random."""
    with quiet():
        model = get_peft_model(load_reference(source), LoraConfig(task_type="CAUSAL_LM", **options))
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(0, 0.1)
        model.save_pretrained(folder, **(save or {}))
    return folder


def in_peft(source: Path, *folders: Path) -> GPT2LMHeadModel:
    """One adapter after the other, merged by PEFT."""
    model = load_reference(source)
    with quiet():
        for folder in folders:
            model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    return model.eval()


def merged(source: Path, *folders: Path) -> Checkpoint:
    checkpoint = open_checkpoint(source)
    checkpoint.check()
    checkpoint = with_adapters(checkpoint, open_adapters(folders))
    checkpoint.check()
    return checkpoint


def assert_same(checkpoint: Checkpoint, expected: np.ndarray) -> None:
    """Every logit within 1e-5 of the largest one's magnitude."""
    found = TorchModel(checkpoint).logits(IDS)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("untied"), tie_word_embeddings=False)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_logits_are_those_of_peft(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    folder = train(checkpoint, tmp_path, **options)
    expected = reference_logits(in_peft(checkpoint, folder), IDS)
    plain = reference_logits(load_reference(checkpoint), IDS)
    assert np.abs(expected - plain).max() > 0.1  # it does something
    assert_same(merged(checkpoint, folder), expected)


@pytest.mark.parametrize("modules", [["c_attn", "lm_head"], ["wte"], ["wte", "wpe", "lm_head"]])
def test_embedding_and_head_of_their_own(untied: Path, tmp_path: Path, modules: list[str]) -> None:
    folder = train(untied, tmp_path, target_modules=modules)
    assert_same(merged(untied, folder), reference_logits(in_peft(untied, folder), IDS))


@pytest.mark.parametrize("modules", [["c_attn", "lm_head"], ["wte"], ["wte", "lm_head"]])
def test_a_tied_matrix_is_adapted_where_it_was_trained(
    checkpoint: Path, tmp_path: Path, modules: list[str]
) -> None:
    """PEFT's own merge adds either to both; the adapter at work, which was trained, doesn't."""
    folder = train(checkpoint, tmp_path, target_modules=modules)
    with quiet():
        at_work = PeftModel.from_pretrained(load_reference(checkpoint), folder).eval()
    made = merged(checkpoint, folder)
    assert_same(made, reference_logits(at_work, IDS))
    assert made.config.tie_word_embeddings is made.config_json["tie_word_embeddings"] is False


def test_an_embedding_that_was_saved_beside_stays_one(checkpoint: Path, tmp_path: Path) -> None:
    folder = train(checkpoint, tmp_path, **ATTENTION, save={"save_embedding_layers": True})
    made = merged(checkpoint, folder)
    assert made.config.tie_word_embeddings
    assert_same(made, reference_logits(in_peft(checkpoint, folder), IDS))


def test_several_one_after_the_other(checkpoint: Path, tmp_path: Path) -> None:
    folders = (
        train(checkpoint, tmp_path / "a", **ATTENTION, modules_to_save=["ln_f"]),
        train(checkpoint, tmp_path / "b", 1, target_modules=["c_attn", "c_fc"], use_rslora=True),
        train(checkpoint, tmp_path / "c", 2, **ATTENTION, bias="all", modules_to_save=["mlp"]),
    )
    made = merged(checkpoint, *folders)
    assert_same(made, reference_logits(in_peft(checkpoint, *folders), IDS))
    assert [adapter.name for adapter in made.adapters] == list(map(str, folders))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_stored_in_half_precision(checkpoint: Path, tmp_path: Path, dtype: str) -> None:
    folder = train(checkpoint, tmp_path, **ATTENTION)
    with quiet():
        model = PeftModel.from_pretrained(load_reference(checkpoint), folder)
        model.to(getattr(torch, dtype)).save_pretrained(folder)
    assert_same(merged(checkpoint, folder), reference_logits(in_peft(checkpoint, folder), IDS))


def test_a_file_of_torch_save(checkpoint: Path, tmp_path: Path) -> None:
    folder = train(checkpoint, tmp_path, **ATTENTION, save={"safe_serialization": False})
    assert (folder / "adapter_model.bin").exists()
    assert_same(merged(checkpoint, folder), reference_logits(in_peft(checkpoint, folder), IDS))


def test_by_transformers_own_method(checkpoint: Path, tmp_path: Path) -> None:
    model = load_reference(checkpoint)
    with quiet():
        model.add_adapter(LoraConfig(**ATTENTION, init_lora_weights=False))
        model.save_pretrained(tmp_path)
    expected = reference_logits(model, IDS)
    assert_same(merged(checkpoint, tmp_path), expected)


@pytest.mark.parametrize("graph", ["fused", "portable"])
def test_the_exported_model_gives_the_logits_of_peft(
    checkpoint: Path, tmp_path: Path, graph: str
) -> None:
    folder = train(checkpoint, tmp_path / "adapter", target_modules="all-linear", use_rslora=True)
    made = gpt2onnx.export(
        checkpoint, tmp_path / "model", adapter=folder, precision="fp32", graph=graph, verify=True
    )
    assert made.verification
    assert made.verification.max_difference < 1e-4
    found = exported_logits(open_exported(made.folder), IDS, prompt=20)
    expected = reference_logits(in_peft(checkpoint, folder), IDS)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "use_dora True means DoRA, which has magnitudes"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa' means training from changed"),
        ({"init_lora_weights": "olora"}, "init_lora_weights 'olora' means training from changed"),
        ({"trainable_token_indices": [3, 5]}, "trainable_token_indices [3, 5] means embeddings of"),
        ({"alora_invocation_tokens": [3]}, "alora_invocation_tokens [3] means an adapter for the"),
    ],
)
def test_what_isn_t_plain_lora(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    folder = train(checkpoint, tmp_path, **ATTENTION, **options)
    with pytest.raises(AdapterError) as raised:
        open_adapters(folder)
    assert message in str(raised.value)
    assert "merge_and_unload" in str(raised.value)


def other_kinds() -> dict[str, Any]:
    import peft

    return {
        "ADALORA": peft.AdaLoraConfig(target_modules=["c_attn"], total_step=10),
        "IA3": peft.IA3Config(target_modules=["c_attn"], feedforward_modules=[]),
        "LOHA": peft.LoHaConfig(target_modules=["lm_head"]),
        "PROMPT_TUNING": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "PREFIX_TUNING": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }


@pytest.mark.parametrize("kind", other_kinds())
def test_other_kinds_of_adapters(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    with quiet():
        get_peft_model(load_reference(checkpoint), other_kinds()[kind]).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match=f"expected peft_type to be 'LORA', not '{kind}'; merge"):
        open_adapters(tmp_path)


def test_another_base_of_the_adapter(checkpoint: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other", n_embd=64)
    deeper = make_checkpoint(tmp_path / "deeper", n_layer=3)
    wide = train(other, tmp_path / "wide", **ATTENTION)
    deep = train(deeper, tmp_path / "deep", **ATTENTION)
    with pytest.raises(
        AdapterError, match=r"expected the shape \[8, 32\].* \[8, 64\]; .* was made"
    ):
        merged(checkpoint, wide)
    with raises(AdapterError, name="base_model.model.transformer.h.2.attn.c_attn.lora_A.weight"):
        merged(checkpoint, deep)


def test_damaged_weights(checkpoint: Path, tmp_path: Path) -> None:
    folder = train(checkpoint, tmp_path, **ATTENTION)
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with raises(WeightsError, path=file):
        open_adapters(folder)
    file.unlink()
    with raises(AdapterError, path=folder):
        open_adapters(folder)
