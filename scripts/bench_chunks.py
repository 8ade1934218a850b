"""How the time of a long prompt depends on the size of the chunks that it is read in.

    python scripts/bench_chunks.py CHECKPOINT [--precisions int8,fp32,int8:int8]

A precision followed by a colon has the KV cache that is named behind it. Milliseconds, medians; the
logits of every size are compared with those of the first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import gpt2onnx
from gpt2onnx.runtime.decoder import fused, reads

SIZES, PROMPTS, REPEATS = (32, 64, 128, 256, 512, 1000), (512, 1000), 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--precisions", default="fp32,int8,int8-dynamic")
    arguments = parser.parse_args()
    print("precision          prompt" + "".join(f"{size:>8}" for size in SIZES) + "  equal logits")
    for precision in arguments.precisions.split(","):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "model")
            name, _, kv_cache = precision.partition(":")
            options = {"precision": name, "kv_cache": kv_cache or "float"}
            gpt2onnx.export(arguments.checkpoint, out, verify=False, **options)
            measure(gpt2onnx.load(out, provider="cpu", startup_cache=False), precision)


def measure(model: gpt2onnx.Model, precision: str) -> None:
    rng = np.random.default_rng(0)
    for length in PROMPTS:
        ids = rng.integers(0, model.decoder.vocab_size, length)
        times, logits = zip(*(prefill(model, ids, size) for size in SIZES), strict=True)
        equal = all(np.array_equal(each, logits[0]) for each in logits)
        shown = "".join(f"{each:8.0f}" for each in times)
        print(f"{precision:18} {length:6}{shown}  {'yes' if equal else 'no'}", flush=True)


def prefill(model: gpt2onnx.Model, ids: np.ndarray, size: int) -> tuple[float, np.ndarray]:
    """Median milliseconds to read a prompt in chunks of `size`, and the logits after it."""
    fused.PREFILL_CHUNK = size
    times = []
    for _ in range(1 + REPEATS):  # the first one warms up
        row = model.decoder.new_row()
        started = time.perf_counter()
        logits = reads.prefill(model.decoder, row, ids)
        times.append(time.perf_counter() - started)
        model.decoder.free(row)
    return 1e3 * statistics.median(times[1:]), logits


if __name__ == "__main__":
    main()
