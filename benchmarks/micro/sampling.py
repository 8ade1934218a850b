"""What choosing tokens costs beside the model's run, of many rows at once.

    python -m benchmarks.micro.sampling MODEL [--rows 32] [--context 128] [--new 16] [--threads 2]

"read ms" is a step's time in the decoder, "rest ms" what all else takes: penalties, warpers, draws,
the text. "share" is the rest over the read.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import gpt2onnx
from benchmarks.decoder_time import decoder_time
from benchmarks.micro.driver import Report

DRAWN = {"do_sample": True, "seed": 0, "temperature": 0.8, "top_k": 50}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy, penalties": {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
    "temperature": {**DRAWN, "top_k": 0},
    "top-k": DRAWN,
    "top-p": {**DRAWN, "top_k": 0, "top_p": 0.95},
    "full chain": {
        **DRAWN,
        "top_p": 0.95,
        "min_p": 0.05,
        "typical_p": 0.95,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.2,
        "dry_multiplier": 0.8,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--new", type=int, default=16, help="tokens a text")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    model = gpt2onnx.load(args.model, provider="cpu", threads=args.threads)
    vocab_size = model.decoder.vocab_size
    prompts = np.random.default_rng(0).integers(0, vocab_size, (args.rows, args.context)).tolist()
    report = Report("way", "read ms", "rest ms", "share")
    steps: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for round_ in range(1 + args.rounds):
        for way, parameters in WAYS.items():
            found = measured(model, prompts, args.new, parameters)
            steps[way] += found if round_ else []
    for way, found in steps.items():
        read, rest = (1e3 * statistics.median(times) for times in zip(*found, strict=True))
        report.row(way, read, rest, rest / read)
    report.end(rows=args.rows, context=args.context, new=args.new)


def measured(
    model: gpt2onnx.Model, prompts: Sequence[list[int]], new: int, parameters: dict[str, Any]
) -> list[tuple[float, float]]:
    """Of each step behind the prompts: seconds in the decoder, and beside it."""
    with decoder_time(model, time.perf_counter) as spent:
        tokens = model.stream(prompts, max_new_tokens=new, eos_token_id=[], **parameters)
        marks = []
        for number, _ in enumerate(tokens, 1):
            if number % len(prompts) == 0:
                marks.append((time.perf_counter(), spent[0]))
    return [(b[1] - a[1], (b[0] - a[0]) - (b[1] - a[1])) for a, b in pairwise(marks)]


if __name__ == "__main__":
    main()
