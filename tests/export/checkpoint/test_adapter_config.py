"""Options of adapters: what shapes the merge, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2onnx.errors import AdapterError
from gpt2onnx.export.checkpoint.adapter_config import LoraConfig, read_adapter_config
from tests.adapters import write_config
from tests.raising import raises


def read(folder: Path, **options: Any) -> LoraConfig:
    write_config(folder, **options)
    return read_adapter_config(folder)


@pytest.mark.parametrize(
    ("options", "scale"),
    [
        ({}, 8 / 4),
        ({"r": 16, "lora_alpha": 24}, 24 / 16),
        ({"r": 16, "lora_alpha": 24, "use_rslora": True}, 24 / 4),
        ({"rank_pattern": {"c_attn": 2}}, 8 / 2),
        ({"rank_pattern": {"attn": 2}}, 8 / 4),  # a name's end, from a dot on
        ({"rank_pattern": {"ttn.c_attn": 2}}, 8 / 4),
        ({"rank_pattern": {r"h\.0\..*": 2, r".*\.c_attn": 1}}, 8 / 2),  # the first
        ({"rank_pattern": {r"h\.1\..*": 2, r".*\.c_attn": 1}}, 8 / 1),
        ({"rank_pattern": {"^transformer.h.0.attn.c_attn": 2}}, 8 / 2),
        ({"rank_pattern": {"^h.0.attn.c_attn": 2}}, 8 / 4),
        ({"alpha_pattern": {"c_attn": 2.5}, "rank_pattern": {"attn.c_attn": 5}}, 2.5 / 5),
        ({"alpha_pattern": {"c_attn": 3}, "use_rslora": True}, 3 / 2),
        ({"alpha_pattern": None, "rank_pattern": {}}, 8 / 4),
    ],
)
def test_a_module_s_scale(tmp_path: Path, options: dict[str, Any], scale: float) -> None:
    assert read(tmp_path, **options).scale("transformer.h.0.attn.c_attn") == scale


def test_options_that_are_lacking_have_peft_s_defaults(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    config = read_adapter_config(tmp_path)
    assert (config.r, config.lora_alpha, config.use_rslora, config.base) == (8, 8, False, None)


def test_what_matters_in_training_alone_is_passed_over(tmp_path: Path) -> None:
    read(
        tmp_path,
        lora_dropout=0.1,
        bias="all",
        modules_to_save=["ln_f"],
        layers_to_transform=[0],
        task_type="CAUSAL_LM",
        peft_version="0.21.2",
        qalora_group_size=16,
        megatron_core="megatron.core",
        some_later_option=None,
        another={},
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peft_type": "ADALORA"}, "expected peft_type to be 'LORA', not 'ADALORA'; merge it by"),
        ({"peft_type": None}, "expected peft_type to be 'LORA', not None"),
        ({"use_dora": True}, "use_dora True means DoRA, which has magnitudes beside"),
        ({"use_qalora": True}, "use_qalora True means QA-LoRA, for quantized weights"),
        ({"layer_replication": [[0, 2]]}, "layer_replication [[0, 2]] means layers that are repe"),
        ({"target_parameters": ["w"]}, "target_parameters ['w'] means adapted parameters"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights 'loftq' means training from changed"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights 'pissa_niter_4' means"),
        ({"init_lora_weights": []}, "init_lora_weights [] means training from changed weights"),
        ({"use_zlora": {"a": 1}}, "use_zlora {'a': 1} is no option that is known here; merge it"),
        ({"r": 0}, "expected r to be a whole number above 0, not 0"),
        ({"r": True}, "expected r to be a whole number above 0, not True"),
        ({"r": "8"}, "expected r to be a whole number above 0, not '8'"),
        ({"lora_alpha": None}, "expected lora_alpha to be a number of at most 1e+30, not None"),
        ({"lora_alpha": 10**40}, "expected lora_alpha to be a number of at most 1e+30"),
        ({"lora_alpha": float("nan")}, "expected lora_alpha to be a number of at most 1e+30"),
        ({"use_rslora": 1}, "expected use_rslora to be true or false, not 1"),
        ({"rank_pattern": ["c_attn"]}, "expected rank_pattern to be an object of patterns"),
        ({"rank_pattern": {"c_attn": 0}}, "expected rank_pattern c_attn to be a whole number"),
        ({"alpha_pattern": {"c_attn": "x"}}, "expected alpha_pattern c_attn to be a number"),
        ({"rank_pattern": {"(": 1}}, "expected rank_pattern to be regular expressions, not '('"),
        ({"rank_pattern": {"(a+)+": 1}}, "expected rank_pattern to be patterns with at most 4 rep"),
        ({"alpha_pattern": {".*" * 5: 1}}, "expected alpha_pattern to be patterns with at most 4"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError) as raised:
        read(tmp_path, **options)
    assert str(raised.value).startswith(f"{tmp_path}/adapter_config.json: {message}")


def test_no_pattern_takes_long(tmp_path: Path) -> None:
    """The worst of those that are taken, on the longest name."""
    config = read(tmp_path, rank_pattern={".*.*.*.*x": 1, "(?:a|a)?(?:a|a)?a?a?x": 2})
    assert config.rank("transformer.h.123456789.attn.c_attn") == 4


@pytest.mark.parametrize("content", [b"", b"[]", b'{"peft_type": "LORA"', b"\xff"])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "adapter_config.json").write_bytes(content)
    with raises(AdapterError, path=tmp_path / "adapter_config.json", name=None):
        read_adapter_config(tmp_path)
