"""What a run measured, as it is written to bench.json. Knows numbers, and no process.

    machine       processor, features, cores, memory_gb, system, python
    checkpoint    name, parameters' shape: n_layer, n_head, n_embd, n_positions, vocab_size
    settings      threads, rounds, quick, started (UTC), seconds, load_before (the machine's)
    reference     the variant that agreement is with, or null
    variants      one each, in the table's order:
      name, peer, bits, ours, rival (whether ours are compared with it)
      left_out    why it wasn't run, or null
      figures     by name: median, rounds (one value each), and agreement where tokens were written:
                  top1, the share of the visit's top tokens that are the reference's, each engine
                  going on from the reference's tokens; at_least where it goes on from its own
                  and only those up to the first difference count
      missing     by figure: why it isn't there
      requirements, settings (what the engine chose)
    bars          name, ours, best_other, ratio, goal, met; ratio above 1 is ours ahead

Figures: decode_32_ms, decode_512_ms, decode_900_ms (a step at that context: the engine's run and
the argmax), prompt_32_ms, prompt_512_ms, prompt_900_ms (the prompt to its first token),
batch_8_tokens_per_s, batch_32_tokens_per_s, import_s, load_s (a fresh process: importing, and
importing and opening), first_token_s (a process from its start to its first output), resident_mb,
anonymous_mb, peak_mb (after 64 tokens in a fresh process; mapped files count as resident),
installed_mb, model_mb; greedy_equal (of 64 greedy tokens, up to the first difference), top1 (0 to
1) and max_logit_difference on forced_count given tokens.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.variants import Variant


@dataclass
class Result:
    """One variant's."""

    variant: Variant
    left_out: str | None = None
    rounds: dict[str, list[float]] = field(default_factory=dict)
    agreements: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def add(self, figures: Mapping[str, float]) -> None:
        """A round's figures."""
        for name, value in figures.items():
            self.rounds.setdefault(name, []).append(value)

    def as_json(self) -> dict[str, Any]:
        variant = self.variant
        return {
            "name": variant.name,
            "peer": variant.peer,
            "bits": variant.bits,
            "ours": variant.ours,
            "rival": variant.rival and not variant.ours,
            "left_out": self.left_out,
            "figures": {
                name: {
                    "median": statistics.median(values),
                    "rounds": values,
                    "agreement": self.agreements.get(name),
                }
                for name, values in self.rounds.items()
            },
            "missing": self.missing,
            "requirements": list(variant.environment.requirements),
            "settings": self.settings,
        }


@dataclass(frozen=True)
class Bar:
    """The best of `ours` against the best rival with weights of at least `least_bits`.

    goal: the ratio to reach, where there is one; limit: what the figure itself may be at most.
    """

    name: str
    figure: str
    ours: tuple[str, ...]
    goal: float | None = None
    limit: float | None = None
    least_bits: int = 8

    def measure(self, variants: list[dict[str, Any]]) -> dict[str, Any]:
        """`variants` as in bench.json. What can't be said, since a side is missing, is null."""
        known = [each for each in variants if self.figure in each["figures"]]
        mine = [each for each in known if each["ours"] and each["name"].split()[1] in self.ours]
        others = [each for each in known if each["rival"] and each["bits"] >= self.least_bits]
        bar = {"name": self.name, "figure": self.figure, "goal": self.goal, "limit": self.limit}
        if not (mine and others):
            return bar | dict.fromkeys(("ours", "best_other", "value", "ratio", "met"))
        more_is_better = self.figure.endswith("_per_s")
        best = max if more_is_better else min
        a, b = (best(side, key=self._value) for side in (mine, others))
        ratio = self._value(a) / self._value(b)
        ratio = ratio if more_is_better else 1 / ratio
        return bar | {
            "ours": a["name"],
            "best_other": b["name"],
            "value": self._value(a),
            "ratio": ratio,
            "met": self._met(self._value(a), ratio),
        }

    def _met(self, value: float, ratio: float) -> bool | None:
        if self.limit is not None:
            return value <= self.limit
        return None if self.goal is None else ratio >= self.goal

    def _value(self, variant: dict[str, Any]) -> float:
        return float(variant["figures"][self.figure]["median"])


# What is to be reached with gpt2onnx-kernels, on processors with VNNI.
KERNELS_BARS = (
    Bar("decode at 32, int8-kernels", "decode_32_ms", ("int8-kernels",), 1.4),
    Bar("decode at 32, int4-kernels", "decode_32_ms", ("int4-kernels",), 1.4, least_bits=4),
    Bar("decode at 32, fp32-kernels", "decode_32_ms", ("fp32-kernels",), 1.1, least_bits=32),
    Bar("decode at 512, int8-kernels", "decode_512_ms", ("int8-kernels",), 1.4),
    Bar("decode at 900, int8-kernels", "decode_900_ms", ("int8-kernels", "int8-kv8-kernels"), 1.5),
    Bar("prompt of 512, int8-kernels", "prompt_512_ms", ("int8-kernels",), 1.15),
    Bar("prompt of 512, fp32-kernels", "prompt_512_ms", ("fp32-kernels",), 1.3, least_bits=32),
    Bar("batch of 8, int8-kernels", "batch_8_tokens_per_s", ("int8-kernels",), 1.4),
    Bar("batch of 8, fp32-kernels", "batch_8_tokens_per_s", ("fp32-kernels",), 1.3, least_bits=32),
    Bar("batch of 32, int8-kernels", "batch_32_tokens_per_s", ("int8-kernels",), 1.4),
    Bar("process start to first token, int8-kernels", "first_token_s", ("int8-kernels",), 1.0),
    Bar("resident memory, int8-kernels", "resident_mb", ("int8-kernels",), limit=200.0),
)
KV8 = ("int8-kv8", "int8-dynamic-kv8")
BARS = (
    Bar("decode at 32, int8-dynamic", "decode_32_ms", ("int8-dynamic",), 2.3),
    Bar("decode at 32, int8", "decode_32_ms", ("int8",), 2.0),
    Bar("decode at 32, int4", "decode_32_ms", ("int4",), 2.5, least_bits=4),
    Bar("decode at 512, int8-dynamic", "decode_512_ms", ("int8-dynamic",)),
    Bar("decode at 512, int8", "decode_512_ms", ("int8",)),
    Bar("decode at 900, int8 KV cache", "decode_900_ms", KV8, 2.0),
    Bar("prompt of 512, int8-dynamic", "prompt_512_ms", ("int8-dynamic",), 1.5),
    Bar("prompt of 512, int8", "prompt_512_ms", ("int8",), 1.0),
    Bar("batch of 8, int8-dynamic", "batch_8_tokens_per_s", ("int8-dynamic",), 2.0),
    Bar("batch of 32, int8-dynamic", "batch_32_tokens_per_s", ("int8-dynamic",), 2.0),
    Bar("process start to first token, int8", "first_token_s", ("int8",), 1.0),
    Bar("load, int8", "load_s", ("int8",)),
    Bar("resident memory while generating, int8", "resident_mb", ("int8",), limit=200.0),
    Bar("peak memory, int8", "peak_mb", ("int8",)),
    Bar("installed size, int8", "installed_mb", ("int8",)),
    *KERNELS_BARS,
)
