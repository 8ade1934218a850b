"""Steps of one model folder as CUDA graphs, to compare folders and settings in turns.

    ORT_ENABLE_XQA=1 python -m benchmarks.cuda.steps FOLDER [--batches 1,128] [--reference FILE]

Of each batch a step that brings the largest logits, behind 32 and 900 tokens, and one that brings
all; a prompt of 900. Prints milliseconds, medians, as a line of JSON, and with --reference how far
the logits of a text are off those in that file, in deviations; the first run writes it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import gpt2onnx
from benchmarks.cuda.answers import stepped
from benchmarks.cuda.bench import MODES
from benchmarks.cuda.times import timed
from gpt2onnx.runtime.decoder import reads

CONTEXTS = (32, 900)
PROMPT, STEPS = 40, 16


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cuda.steps", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", default="1,8,32,128", help="numbers of rows")
    parser.add_argument("--reference", type=Path, help="a file.npy with logits, or to write")
    args = parser.parse_args()
    model = gpt2onnx.load(args.folder, "cuda", provider_options=MODES["graphs"])
    ids = np.random.default_rng(7).integers(0, model.decoder.vocab_size, CONTEXTS[-1])
    found: dict[str, float] = {}
    if args.reference:
        found["off"] = off(stepped(model, ids[: PROMPT + STEPS], PROMPT), args.reference)
    for batch in map(int, args.batches.split(",")):
        for context in CONTEXTS:
            found |= steps(model.decoder, ids[:context], batch)
    print(json.dumps(found))


def off(logits: np.ndarray, file: Path) -> float:
    """The largest difference of any logit, as a share of their deviation."""
    if not file.exists():
        with file.open("wb") as out:  # np.save would add .npy to another name
            np.save(out, logits)
    expected = np.load(file)
    return float(np.abs(logits - expected).max() / expected.std())


def steps(decoder: Any, ids: np.ndarray, batch: int) -> dict[str, float]:
    """Milliseconds of a prompt, and of steps of `batch` rows behind it."""
    decoder.reserve(batch, len(ids) + 8)
    rows = [decoder.new_row()]
    name = f"batch {batch}, context {len(ids)}"

    def again() -> None:
        decoder.truncate(rows[0], 0)
        reads.prefill(decoder, rows[0], ids)

    found = {f"prompt of {len(ids)}": milliseconds(again, 16)}
    rows += [decoder.fork(rows[0]) for _ in range(batch - 1)]

    def step(take: Callable[..., Any]) -> None:
        take(decoder, rows, np.arange(batch))
        for row in rows:
            decoder.truncate(row, len(ids))

    for take in (reads.step_largest, reads.step):
        found[f"{take.__name__}, {name}"] = milliseconds(partial(step, take), 64)
    for row in reversed(rows):
        decoder.free(row)
    return found


def milliseconds(run: Callable[[], Any], count: int) -> float:
    return 1e3 * median(timed(run, count))


if __name__ == "__main__":
    main()
