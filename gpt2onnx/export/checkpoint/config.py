"""The options of a checkpoint's config.json that shape the graph.

Every option of transformers' GPT2Config either has its effect in the exported model or is refused
here, by name. Options that only matter in training, such as dropout, are left out. Knows nothing of
weights, files or ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt2onnx.errors import UnsupportedConfigError, shown

ACTIVATIONS = frozenset(
    {
        "gelu",
        "gelu_10",
        "gelu_accurate",
        "gelu_fast",
        "gelu_new",
        "gelu_python",
        "gelu_python_tanh",
        "gelu_pytorch_tanh",
        "laplace",
        "leaky_relu",
        "linear",
        "mish",
        "quick_gelu",
        "relu",
        "relu2",
        "relu6",
        "sigmoid",
        "silu",
        "swish",
        "tanh",
    }
)
"""The names of transformers' ACT2FN, without prelu and xielu, which have trained parameters."""

DEFAULTS: Mapping[str, Any] = {
    "model_type": "gpt2",
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "tie_word_embeddings": True,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}

ALIASES: Mapping[str, str] = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
"""GPT2Config's attribute_map. Where a config has both names, transformers lets the alias win."""

ARCHITECTURES = frozenset({"GPT2LMHeadModel", "GPT2Model", "GPT2DoubleHeadsModel"})
"""GPT2Model's head is its embedding; of GPT2DoubleHeadsModel the language model's head is taken."""

LARGEST_EPSILON = 1e30
"""Layer normalization adds it in float32."""

REFUSED: Mapping[str, str] = {
    "add_cross_attention": "attention to an encoder",
    "is_encoder_decoder": "an encoder",
    "pruned_heads": "layers with unequal numbers of heads",
    "quantization_config": "weights that are quantized already",
    "sliding_window": "attention to a part of the context",
    "attention_chunk_size": "attention to a part of the context",
    "layer_types": "layers with different kinds of attention",
    "auto_map": "model code of its own instead of transformers'",
}
"""Options that transformers heeds, and why they can't be exported when they are set."""


@dataclass(frozen=True)
class Gpt2Config:
    """The options of GPT2Config by transformers' names, checked. Made by `from_json`.

    `n_inner` is never None. `scale_attn_weights` and `scale_attn_by_inverse_layer_idx` mean what
    transformers' eager attention makes of them: the SDPA attention of 4.57 passes over both
    (transformers#44397). `reorder_and_upcast_attn` changes nothing in float32.
    """

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int
    activation_function: str
    layer_norm_epsilon: float
    scale_attn_weights: bool
    scale_attn_by_inverse_layer_idx: bool
    reorder_and_upcast_attn: bool
    tie_word_embeddings: bool
    bos_token_id: int | None
    eos_token_id: int | tuple[int, ...] | None

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    def scale(self, layer: int) -> float:
        """What a layer's attention scores are multiplied by: GPT2Attention.scaling."""
        scale = self.head_dim**-0.5 if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale

    @classmethod
    def from_json(cls, config_json: Mapping[str, Any]) -> Gpt2Config:
        """Read a config.json; a key that it lacks has transformers' default.

        Raises UnsupportedConfigError where the export can't give PyTorch's logits.
        """
        aliased = {ALIASES[key]: value for key, value in config_json.items() if key in ALIASES}
        options = {**DEFAULTS, **config_json, **aliased}
        _refuse_other_models(options)
        n_embd, n_head = _size(options, "n_embd"), _size(options, "n_head")
        if n_embd % n_head:
            raise UnsupportedConfigError(
                f"config.json: n_embd {shown(n_embd)} must be a multiple of n_head {shown(n_head)}",
                name="n_embd",
            )
        return cls(
            vocab_size=_size(options, "vocab_size"),
            n_positions=_size(options, "n_positions"),
            n_embd=n_embd,
            n_layer=_size(options, "n_layer"),
            n_head=n_head,
            n_inner=4 * n_embd if options["n_inner"] is None else _size(options, "n_inner"),
            activation_function=_activation(options),
            layer_norm_epsilon=_epsilon(options),
            scale_attn_weights=_switch(options, "scale_attn_weights"),
            scale_attn_by_inverse_layer_idx=_switch(options, "scale_attn_by_inverse_layer_idx"),
            reorder_and_upcast_attn=_switch(options, "reorder_and_upcast_attn"),
            tie_word_embeddings=_switch(options, "tie_word_embeddings"),
            bos_token_id=_token(options, "bos_token_id"),
            eos_token_id=_tokens(options, "eos_token_id"),
        )


def _refuse_other_models(options: Mapping[str, Any]) -> None:
    if options["model_type"] != "gpt2":
        raise _wrong(options, "model_type", "'gpt2'")
    architectures = options.get("architectures") or []
    if not isinstance(architectures, list) or not ARCHITECTURES.issuperset(map(str, architectures)):
        raise _wrong(options, "architectures", f"a list of {', '.join(sorted(ARCHITECTURES))}")
    for name, meaning in REFUSED.items():
        if options.get(name):
            raise UnsupportedConfigError(
                f"config.json: {name} {shown(options[name])} means {meaning}, which can't be"
                " exported",
                name=name,
            )


def _size(options: Mapping[str, Any], name: str) -> int:
    value = options[name]
    if type(value) is int and value > 0:
        return value
    raise _wrong(options, name, "a whole number above 0")


def _switch(options: Mapping[str, Any], name: str) -> bool:
    value = options[name]
    if isinstance(value, bool):
        return value
    raise _wrong(options, name, "true or false")


def _activation(options: Mapping[str, Any]) -> str:
    value = options["activation_function"]
    if isinstance(value, str) and value in ACTIVATIONS:
        return value
    raise _wrong(options, "activation_function", f"one of {', '.join(sorted(ACTIVATIONS))}")


def _epsilon(options: Mapping[str, Any]) -> float:
    value = options["layer_norm_epsilon"]
    if type(value) in (int, float) and 0 <= value <= LARGEST_EPSILON:
        return float(value)
    raise _wrong(options, "layer_norm_epsilon", f"a number from 0 to {LARGEST_EPSILON:g}")


def _token(options: Mapping[str, Any], name: str) -> int | None:
    value = options[name]
    if value is None or _is_token(value):
        token: int | None = value
        return token
    raise _wrong(options, name, "a token id or null")


def _tokens(options: Mapping[str, Any], name: str) -> int | tuple[int, ...] | None:
    value = options[name]
    if not isinstance(value, list):
        return _token(options, name)
    if all(map(_is_token, value)):
        return tuple(value)
    raise _wrong(options, name, "a token id, a list of them or null")


def _is_token(value: object) -> bool:
    """Whether this can be a token's id. Some configs have -1 for no token."""
    return type(value) is int and -(2**31) <= value < 2**31


def _wrong(options: Mapping[str, Any], name: str, wanted: str) -> UnsupportedConfigError:
    return UnsupportedConfigError(
        f"config.json: {name} must be {wanted}, not {shown(options[name])}",
        name=name,
    )
