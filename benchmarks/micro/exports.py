"""What each precision takes to make and to open, with how far it is from the first one's logits.

    python -m benchmarks.micro.exports CHECKPOINT [--precisions fp32,int8,int8:int8] [--rounds 3]

A precision followed by a colon has the KV cache that is named behind it. Each export and each
opening is a process of its own, so that peaks of memory are its own; memory is anonymous
(RssAnon), since mapped files are the page cache's. Agreement is with the first precision, on the
same random tokens. How fast each one runs, `scripts/bench` tells, beside other engines.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.micro.driver import Report, Timed, in_turn

CHECKED = 64  # tokens


class Made(NamedTuple):
    """What an export and an opening left: bytes in MB, logits [CHECKED, vocab]."""

    peak: float
    size: float
    load_s: float
    resident: float
    logits: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--precisions", default="fp32,fp16,int8,int8-dynamic,int4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    names = args.precisions.split(",")
    runs = {name: partial(export_and_open, args.checkpoint, name, args.threads) for name in names}
    results = in_turn(runs, args.rounds)
    report = Report(
        *("precision", "export s", "peak MB", "size MB", "load s", "resident MB"),
        *("mean KL", "top-1"),
    )
    reference = results[names[0]].answer.logits
    for name, result in results.items():
        peak, size, load_s, resident, logits = result.answer
        figures = (result.ms / 1e3, peak, size, load_s, resident)
        report.row(name, *figures, *agreement(reference, logits))
    report.end(checkpoint=str(args.checkpoint), rounds=args.rounds)


def export_and_open(checkpoint: Path, precision: str, threads: int | None) -> Timed:
    """The export's own seconds, and what is found of it and of the open model."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, "model"))
        seconds, peak, size = apart(measure_export, str(checkpoint), out, precision)
        return Timed(seconds, Made(peak, size, *apart(measure_opening, out, threads)))


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measure_export(checkpoint: str, out: str, precision: str) -> tuple[float, float, float]:
    """Seconds, the peak of memory and the folder's size."""
    import gpt2onnx.export

    name, _, kv_cache = precision.partition(":")
    with PeakMemory() as memory:
        made = gpt2onnx.export(
            checkpoint, out, precision=name, kv_cache=kv_cache or "float", verify=False
        )
    return made.seconds, memory.peak_mb, made.size / 1e6


def measure_opening(folder: str, threads: int | None) -> tuple[float, float, np.ndarray]:
    """Seconds, memory after a prompt, and its logits [CHECKED, vocab]."""
    import gpt2onnx
    from gpt2onnx.runtime.decoder import reads

    started = time.perf_counter()
    model = gpt2onnx.load(folder, provider="cpu", threads=threads, startup_cache=False)
    seconds = time.perf_counter() - started
    ids = np.random.default_rng(0).integers(0, model.decoder.vocab_size, CHECKED)
    row = model.decoder.new_row()
    logits = reads.extend(model.decoder, row, ids)
    resident = anonymous_mb()
    model.decoder.free(row)
    return seconds, resident, logits


def agreement(reference: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Mean KL divergence (nats) and top-1 agreement of logits [positions, vocab]."""
    from gpt2onnx.agreement import Agreement

    found = Agreement()
    found.add(reference, logits)
    return found.kl_mean, found.top1_agreement


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


if __name__ == "__main__":
    main()
