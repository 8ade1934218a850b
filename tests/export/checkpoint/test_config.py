from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
from transformers import GPT2Config
from transformers.activations import ACT2FN

from gpt2onnx.errors import UnsupportedConfigError
from gpt2onnx.export.checkpoint.config import ACTIVATIONS, ALIASES, ARCHITECTURES, Gpt2Config

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


def test_head_dim_and_several_end_tokens() -> None:
    config = Gpt2Config.from_json({"n_embd": 96, "n_head": 4, "eos_token_id": [3, 5]})
    assert config.head_dim == 24
    assert config.eos_token_id == (3, 5)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_accepts_models_whose_logits_are_the_language_models(architecture: str) -> None:
    assert Gpt2Config.from_json({"architectures": [architecture]}) == Gpt2Config.from_json({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "llama"),
        ("model_type", None),
        ("architectures", ["GPT2ForSequenceClassification"]),
        ("architectures", ["GPT2LMHeadModel", "GPT2LMHeadCustomModel"]),
        ("architectures", "GPT2LMHeadModel"),
        ("add_cross_attention", True),
        ("is_encoder_decoder", True),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"quant_method": "bitsandbytes"}),
        ("sliding_window", 128),
        ("attention_chunk_size", 128),
        ("layer_types", ["sliding_attention"]),
        ("auto_map", {"AutoModelForCausalLM": "modeling.Custom"}),
        ("vocab_size", 0),
        ("n_positions", -1),
        ("n_layer", 0),
        ("n_embd", "768"),
        ("n_embd", 768.0),
        ("n_head", True),
        ("n_inner", 0),
        ("n_head", 7),
        ("activation_function", "prelu"),
        ("activation_function", ["gelu"]),
        ("layer_norm_epsilon", -1e-5),
        ("layer_norm_epsilon", "1e-5"),
        ("layer_norm_epsilon", float("nan")),
        ("scale_attn_weights", 1),
        ("tie_word_embeddings", None),
        ("bos_token_id", [1]),
        ("eos_token_id", "2"),
        ("eos_token_id", [1, True]),
    ],
)
def test_refuses_by_name(name: str, value: object) -> None:
    with pytest.raises(UnsupportedConfigError, match=name) as raised:
        Gpt2Config.from_json({name: value})
    assert "\n" not in str(raised.value)
    assert (repr(value) in str(raised.value)) or str(value) in str(raised.value)
