"""What was asked of a benchmark, and what has been exported, opened and found so far."""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import gpt2onnx

DEMO = Path(gpt2onnx.__file__).parent / "demo" / "model"
MODES = {"plain": {"enable_cuda_graph": "0"}, "graphs": {"enable_cuda_graph": "1"}}
# A cache begins with 128 tokens' room, so that steps from here to behind it see it grow.
PROMPT, STEPS = 120, 16


class Bench:
    """What was asked for, and what has been exported, opened and found so far."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.ends = time.monotonic() + 60 * args.minutes
        self.batches = (1, 4) if args.quick else (1, 8, 32, 128)
        self.steps = 4 if args.quick else 64
        self.contexts = (32, 200) if args.quick else (32, 900)
        self.modes = MODES if args.device == "cuda" else {"plain": None}
        self.found: dict[str, Any] = {}
        self.open = cache(self._open)  # models stay open until the end

    @property
    def checkpoint(self) -> Path:
        if self.args.quick or self.args.checkpoint:
            return self.args.checkpoint or DEMO
        out = self.folder / "gpt2"
        if out.exists():  # another group's process has written it
            return out
        from benchmarks.checkpoints import random_weights

        unfinished = self.folder / "unfinished"
        unfinished.mkdir()
        random_weights.write_weights(unfinished, "gpt2", np.random.default_rng(0))
        random_weights.write_config(unfinished, "gpt2")
        random_weights.write_tokenizer(unfinished, None)
        return unfinished.rename(out)

    def exported(self, precision: str, device: str = "cuda") -> Path:
        """What runs here is made for CUDA, the reference alone for the CPU."""
        out = self.folder / f"{precision}-{device}"
        if not out.exists():
            gpt2onnx.export(self.checkpoint, out, precision=precision, device=device, verify=False)
        return out

    def _open(self, precision: str, mode: str) -> gpt2onnx.Model:
        model = gpt2onnx.load(
            self.exported(precision), self.args.device, provider_options=self.modes[mode]
        )
        print(f"# {precision}, {mode}: {model.decoder.session.choice}")
        return model

    @cache  # noqa: B019 - one object, as long as the process
    def reference(self, precision: str = "fp32") -> gpt2onnx.Model:
        """On the CPU fp32 as made for it; any other as made for CUDA."""
        made = self.exported("fp32", "cpu") if precision == "fp32" else self.exported(precision)
        return gpt2onnx.load(made, "cpu")

    @property
    def ids(self) -> np.ndarray:
        return self.text(PROMPT + STEPS)

    def text(self, length: int) -> np.ndarray:
        vocab = self.reference().decoder.vocab_size
        return np.random.default_rng(7).integers(0, vocab, length)

    def part(self, name: str, run: Callable[[], Any]) -> None:
        if time.monotonic() > self.ends:
            self.found[name] = {"skipped": "no time left"}
        else:
            started = time.monotonic()
            try:
                self.found[name] = judged(run())
            except Exception as error:  # one part's failure must not hide the others
                traceback.print_exc(file=sys.stdout)
                self.found[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
            print(f"{name} ({time.monotonic() - started:.1f} s): {json.dumps(self.found[name])}")
        sys.stdout.flush()
        keep(self.found, self.args.out)


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """With an error, if something is further off than allowed, or isn't a number."""
    if "allowed" in found and not found["max"] <= found["allowed"]:
        found["error"] = f"off by {found['max']:.3g}, {found['allowed']:.3g} is allowed"
    return found


def keep(found: dict[str, Any], out: Path | None) -> None:
    if out:
        out.write_text(json.dumps(found) + "\n")
