"""The options of a LoRA adapter's adapter_config.json that shape its merged weights.

Every option of PEFT's LoraConfig either has its effect in the merge, matters in training alone, or
is refused here, by name. Which modules are adapted is not read here: the tensors say it. Knows
nothing of tensors, and nothing of GPT-2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gpt2onnx.errors import AdapterError, shown
from gpt2onnx.files import read_json

ADAPTER_CONFIG = "adapter_config.json"
MERGE_IT = "merge it by PEFT's merge_and_unload() and export the result"
MAX_BYTES = 10_000_000
LARGEST_ALPHA = 1e30
"""The scale is multiplied in float32."""

REFUSED: Mapping[str, str] = {
    "alora_invocation_tokens": "an adapter for the text behind certain tokens (aLoRA)",
    "arrow_config": "a mixture of adapters (Arrow)",
    "kasa_config": "singular values between the two factors (KaSA)",
    "layer_replication": "layers that are repeated",
    "megatron_config": "Megatron's layers",
    "monteclora_config": "factors that are drawn at random (MonteCLoRA)",
    "target_parameters": "adapted parameters that are no module's weight",
    "trainable_token_indices": "embeddings of single tokens beside LoRA",
    "use_bdlora": "block-diagonal factors (BD-LoRA)",
    "use_dora": "DoRA, which has magnitudes beside the two factors",
    "use_qalora": "QA-LoRA, for quantized weights",
    "velora_config": "VeLoRA",
}
"""Options that PEFT heeds, and why such an adapter isn't merged when they are set."""

KEPT_BASE = (True, False, "gaussian", "eva", "orthogonal", "mica")
"""Values of init_lora_weights with which training began from the base model's own weights."""

PASSED_OVER = frozenset(
    {
        *("auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying"),
        *("eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "layers_pattern"),
        *("layers_to_transform", "loftq_config", "lora_bias", "lora_dropout", "lora_ga_config"),
        *("megatron_core", "modules_to_save", "peft_version", "qalora_group_size", "revision"),
        *("target_modules", "task_type"),
    }
)
"""Options that matter in training, that the tensors tell as well, or that describe."""

HEEDED = frozenset(
    {
        *("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"),
        "init_lora_weights",
    }
)

# A pattern is tried on names of forty characters: with these bounds it can't take long.
REPEATED_GROUP = re.compile(r"\)[*+{]")
MOST_REPEATS = 4

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class LoraConfig:
    """The options of LoraConfig by PEFT's names, checked. `base` is the model it was made for."""

    r: int
    lora_alpha: float
    rank_pattern: Mapping[re.Pattern[str], int]
    alpha_pattern: Mapping[re.Pattern[str], float]
    use_rslora: bool
    base: str | None

    def rank(self, module: str) -> int:
        """The inner size of a module's two factors."""
        return _matched(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """What the product of a module's two factors is multiplied by."""
        alpha, rank = _matched(self.alpha_pattern, module, self.lora_alpha), self.rank(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def read_adapter_config(folder: Path) -> LoraConfig:
    """The options in a folder's adapter_config.json; a key that it lacks has PEFT's default.

    Raises AdapterError for what can't be read, and for what isn't LoRA.
    """
    return _Reader(folder / ADAPTER_CONFIG).config()


class _Reader:
    """One adapter_config.json, each option read by a method that checks it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._options = read_json(path, AdapterError, MAX_BYTES)

    def config(self) -> LoraConfig:
        self._refuse_others()
        base = self._options.get("base_model_name_or_path")
        return LoraConfig(
            r=self._rank("r", self._options.get("r", 8)),
            lora_alpha=self._alpha("lora_alpha", self._options.get("lora_alpha", 8)),
            rank_pattern={p: self._rank(key, n) for p, key, n in self._patterns("rank_pattern")},
            alpha_pattern={p: self._alpha(key, n) for p, key, n in self._patterns("alpha_pattern")},
            use_rslora=self._switch("use_rslora"),
            base=base if isinstance(base, str) else None,
        )

    def _refuse_others(self) -> None:
        if self._options.get("peft_type") != "LORA":
            raise self._wrong("peft_type", "'LORA'", self._options.get("peft_type"), MERGE_IT)
        initial = self._options.get("init_lora_weights", True)
        if not isinstance(initial, bool | str) or initial not in KEPT_BASE:
            said = f"init_lora_weights {shown(initial)} means training from changed weights"
            raise AdapterError(
                f"{self._path}: {said}, not from the base model's; {MERGE_IT}",
                path=self._path,
                name="init_lora_weights",
            )
        for name in sorted(name for name, value in self._options.items() if value):
            if name in REFUSED:
                said = f"{name} {shown(self._options[name])} means {REFUSED[name]}"
                raise AdapterError(
                    f"{self._path}: {said}, which isn't merged here; {MERGE_IT}",
                    path=self._path,
                    name=name,
                )
            if name not in HEEDED | PASSED_OVER:
                said = f"{name:.100} {shown(self._options[name])} is no option that is known here"
                raise AdapterError(f"{self._path}: {said}; {MERGE_IT}", path=self._path, name=name)

    def _rank(self, name: str, value: Any) -> int:
        if type(value) is int and value > 0:
            return value
        raise self._wrong(name, "a whole number above 0", value)

    def _alpha(self, name: str, value: Any) -> float:
        if type(value) in (int, float) and -LARGEST_ALPHA <= value <= LARGEST_ALPHA:
            return float(value)
        raise self._wrong(name, f"a number of at most {LARGEST_ALPHA:g}", value)

    def _switch(self, name: str) -> bool:
        value = self._options.get(name, False)
        if isinstance(value, bool):
            return value
        raise self._wrong(name, "true or false", value)

    def _patterns(self, name: str) -> list[tuple[re.Pattern[str], str, Any]]:
        """The patterns of an option, compiled, each with what names it in a message and a value."""
        given = self._options.get(name) or {}
        if not isinstance(given, dict):
            raise self._wrong(name, "an object of patterns", given)
        return [(self._pattern(name, p), f"{name} {p:.100}", n) for p, n in given.items()]

    def _pattern(self, name: str, pattern: str) -> re.Pattern[str]:
        """As PEFT's get_pattern_key has it: the end of a module's name, from a dot on."""
        repeats = sum(map(pattern.replace("(?", "(").count, "*+?{"))
        if repeats > MOST_REPEATS or REPEATED_GROUP.search(pattern):
            wanted = f"patterns with at most {MOST_REPEATS} repeats, and none of a group"
            raise self._wrong(name, wanted, pattern, "write it in other words")
        try:
            return re.compile(rf"(.*\.)?({pattern})$")
        except (re.error, OverflowError, RecursionError) as error:
            raise self._wrong(name, "regular expressions", pattern, f"{error!s:.100}") from error

    def _wrong(self, name: str, wanted: str, value: object, advice: str = "") -> AdapterError:
        more = f"; {advice}" if advice else ""
        return AdapterError(
            f"{self._path}: expected {name} to be {wanted}, not {shown(value)}{more}",
            path=self._path,
            name=name,
        )


def _matched(patterns: Mapping[re.Pattern[str], Number], module: str, default: Number) -> Number:
    """The value of the first pattern that a module's name matches."""
    return next((value for pattern, value in patterns.items() if pattern.match(module)), default)
