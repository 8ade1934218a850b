from __future__ import annotations

import pytest

from gpt2onnx.errors import UnsupportedConfigError
from gpt2onnx.export.checkpoint.config import ARCHITECTURES, Gpt2Config
from tests.raising import raises


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
    with raises(UnsupportedConfigError, name=name) as raised:
        Gpt2Config.from_json({name: value})
    assert "\n" not in str(raised.value)
    assert (repr(value) in str(raised.value)) or str(value) in str(raised.value)


def test_heads_share_the_width() -> None:
    with pytest.raises(UnsupportedConfigError, match="n_embd 768 must be a multiple of n_head 7"):
        Gpt2Config.from_json({"n_head": 7})
