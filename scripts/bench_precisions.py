"""What each precision costs: export, size, memory, prompt, decode and batch, with agreement beside.

    python scripts/bench_precisions.py CHECKPOINT [--precisions fp32,int8,int8:int8] [--threads 2]

A precision followed by a colon has the KV cache that is named behind it.
Each precision is exported and run in processes of its own, so that peaks of memory are its own.
Memory is anonymous memory (RssAnon): mapped files are the page cache's. Times are medians.
Agreement is with the first of the list, on the same random tokens.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gpt2onnx.runtime.decoder import reads

PROMPT, LONG, CHECKED, BATCH, REPEATS = 512, 900, 64, 8, 15
HEADER = (
    "precision          export s  peak MB  size MB  load s  resident MB  prompt-512 ms  "
    "decode@32 ms  decode@512 ms  decode@900 ms  batch-8 tok/s  mean KL  top-1"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--precisions", default="fp32,fp16,int8,int8-dynamic,int4")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="one object a precision")
    arguments = parser.parse_args()
    if not arguments.json:
        print(HEADER)
    reference = None
    for precision in arguments.precisions.split(","):
        with tempfile.TemporaryDirectory() as folder:
            out = str(Path(folder, "model"))
            figures = apart(measure_export, str(arguments.checkpoint), out, precision)
            measured, logits = apart(measure_run, out, arguments.threads)
        reference = logits if reference is None else reference
        figures |= measured | agreement(reference, logits)
        as_json = json.dumps({"precision": precision, **figures})
        print(as_json if arguments.json else row(precision, figures), flush=True)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measure_export(checkpoint: str, out: str, precision: str) -> dict[str, float]:
    import gpt2onnx.export

    name, _, kv_cache = precision.partition(":")
    with PeakMemory() as memory:
        made = gpt2onnx.export(
            checkpoint, out, precision=name, kv_cache=kv_cache or "float", verify=False
        )
    return {"export_s": made.seconds, "export_peak_mb": memory.peak_mb, "size_mb": made.size / 1e6}


def measure_run(folder: str, threads: int | None) -> tuple[dict[str, float], np.ndarray]:
    import gpt2onnx

    started = time.perf_counter()
    model = gpt2onnx.load(folder, provider="cpu", threads=threads, startup_cache=False)
    load_s = time.perf_counter() - started
    decoder = model.decoder
    long = np.random.default_rng(0).integers(0, decoder.vocab_size, LONG)
    ids = long[:PROMPT]
    figures = {
        "load_s": load_s,
        "prompt_512_ms": median_ms(lambda: forget(decoder, partial(decoder.prefill, ids=ids)), 5),
        "decode_32_ms": decode_ms(decoder, ids[:32], 1),
        "decode_512_ms": decode_ms(decoder, ids, 1),
        "decode_900_ms": decode_ms(decoder, long, 1),
        "batch_8_tokens_per_s": 8000 / decode_ms(decoder, ids[:32], BATCH),
        "resident_mb": anonymous_mb(),
    }
    return figures, forget(decoder, partial(decoder.extend, ids=ids[:CHECKED]))


def forget(decoder: Any, use: Callable[[Any], Any]) -> Any:
    """Use a fresh row and free it."""
    row = decoder.new_row()
    result = use(row)
    decoder.free(row)
    return result


def decode_ms(decoder: Any, prompt: np.ndarray, batch: int) -> float:
    """Median time of a step of `batch` rows that hold `prompt`."""
    decoder.reserve(batch, len(prompt) + 1)
    rows = [decoder.new_row()]
    reads.prefill(decoder, rows[0], prompt)
    rows += [decoder.fork(rows[0]) for _ in range(batch - 1)]

    def step() -> None:
        reads.step(decoder, rows, np.zeros(batch, np.int64))
        for row in rows:
            decoder.truncate(row, len(prompt))

    result = median_ms(step, REPEATS)
    for row in rows:
        decoder.free(row)
    return result


def median_ms(run: Callable[[], object], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def agreement(reference: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Mean KL divergence (nats) and top-1 agreement of logits [positions, vocab]."""
    from gpt2onnx.samplers import log_softmax

    log_p, log_q = log_softmax(reference), log_softmax(logits)
    kl = (np.exp(log_p) * (log_p - log_q)).sum(-1).mean()
    return {"mean_kl": float(kl), "top1": float((reference.argmax(-1) == logits.argmax(-1)).mean())}


class PeakMemory:
    """The largest anonymous memory of this process while the block runs, sampled each 5 ms."""

    def __enter__(self) -> PeakMemory:
        self.peak_mb = anonymous_mb()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.peak_mb = max(self.peak_mb, anonymous_mb())


def anonymous_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024 / 1e6


def row(precision: str, f: dict[str, float]) -> str:
    return (
        f"{precision:18}{f['export_s']:9.2f}{f['export_peak_mb']:9.0f}{f['size_mb']:9.1f}{f['load_s']:8.2f}"
        f"{f['resident_mb']:13.0f}{f['prompt_512_ms']:15.0f}{f['decode_32_ms']:14.2f}"
        f"{f['decode_512_ms']:15.2f}{f['decode_900_ms']:15.2f}{f['batch_8_tokens_per_s']:15.0f}{f['mean_kl']:9.1e}{f['top1']:7.3f}"
    )


if __name__ == "__main__":
    main()
