"""Configs as GPT2Config writes them, and its activations by name."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
from transformers import GPT2Config
from transformers.activations import ACT2FN

from gpt2onnx.export.checkpoint.config import ACTIVATIONS, ALIASES, Gpt2Config

# Options that have no part in GPT2LMHeadModel's logits outside of training.
WITHOUT_EFFECT = {
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "initializer_range",
    "summary_type",
    "summary_use_proj",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_first_dropout",
    "use_cache",
}


def as_transformers_reads(config_json: dict[str, Any]) -> dict[str, Any]:
    reference = GPT2Config.from_dict(config_json)
    names = [field.name for field in dataclasses.fields(Gpt2Config)]
    expected = {name: getattr(reference, name) for name in names}
    if expected["n_inner"] is None:
        expected["n_inner"] = 4 * reference.n_embd
    return expected


@pytest.mark.parametrize(
    "config_json",
    [
        {},
        {"model_type": "gpt2", "architectures": None, "pruned_heads": {}},
        {"n_embd": 64, "n_head": 8, "n_layer": 3, "n_positions": 12, "vocab_size": 99},
        {"n_inner": 100, "activation_function": "relu", "layer_norm_epsilon": 1},
        {"hidden_size": 64, "num_attention_heads": 8, "num_hidden_layers": 3},
        {"max_position_embeddings": 7, "n_positions": 9},
        {"tie_word_embeddings": False, "scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
        {"bos_token_id": None, "eos_token_id": None},
        {"n_ctx": 5, "resid_pdrop": 0.5, "use_cache": False, "torch_dtype": "float16"},
    ],
)
def test_equals_transformers_config(config_json: dict[str, Any]) -> None:
    config = Gpt2Config.from_json(config_json)
    assert dataclasses.asdict(config) == as_transformers_reads(config_json)


def test_every_option_of_gpt2config_is_accounted_for() -> None:
    options = set(inspect.signature(GPT2Config.__init__).parameters) - {"self", "kwargs"}
    assert options - WITHOUT_EFFECT <= {field.name for field in dataclasses.fields(Gpt2Config)}


def test_aliases_and_activations_are_those_of_transformers() -> None:
    assert GPT2Config.attribute_map == ALIASES
    assert set(ACT2FN) - {"prelu", "xielu"} == ACTIVATIONS
