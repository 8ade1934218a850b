"""How block size and threads decide the time of an int8 model's steps and prompts.

    python scripts/bench_blocks.py CHECKPOINT [--precision int8] [--blocks 32,128] [--threads 1,2]

Models of every block size and number of threads are open at once and take turns; milliseconds,
medians. "rows alone" says whether a row's logits are bit for bit the same alone and among eight,
"KL" how far they are from fp32's along 64 random tokens.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np

import gpt2onnx
from gpt2onnx.agreement import Agreement
from gpt2onnx.export.quantization import blocks
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.profiling.profile import Work

WORK = Work(prompt_length=512, context=32, steps=32)
ROUNDS, ROWS = 3, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--blocks", default="32,64,128")
    parser.add_argument("--threads", default="1,2")
    arguments = parser.parse_args()
    sizes, threads = (
        [int(each) for each in text.split(",")] for text in (arguments.blocks, arguments.threads)
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        gpt2onnx.export(arguments.checkpoint, out / "fp32", precision="fp32", verify=False)
        opened = {}
        for size in sizes:
            blocks.BLOCK_SIZE = size
            path = out / str(size)
            gpt2onnx.export(arguments.checkpoint, path, precision=arguments.precision, verify=False)
            opened |= {(size, count): load(path, count) for count in threads}
        times = {key: ([], []) for key in opened}
        for _ in range(ROUNDS):
            for key, model in opened.items():
                for kept, found in zip(times[key], measured(model), strict=True):
                    kept += found
        reference = load(out / "fp32", max(threads))
        print("block  threads  prompt of 512  step  rows alone   KL")
        for (size, count), model in opened.items():
            prompt, step = (1e3 * statistics.median(each) for each in times[size, count])
            alone = "same" if stands_alone(model) else "others"
            kl = divergence(model, reference)
            print(f"{size:5} {count:8} {prompt:14.0f} {step:5.2f}  {alone:10} {kl:.1e}")


def load(folder: Path, threads: int) -> gpt2onnx.Model:
    return gpt2onnx.load(folder, provider="cpu", threads=threads, startup_cache=False)


def measured(model: gpt2onnx.Model) -> tuple[list[float], list[float]]:
    """Seconds of prompts, and of steps."""
    return WORK.prompts(model.decoder)[1:], WORK.decode(model.decoder)[1:]


def stands_alone(model: gpt2onnx.Model) -> bool:
    """Whether a row gets the same logits alone and among others."""
    decoder, tokens = model.decoder, ids(model, 256).reshape(ROWS, -1)
    rows = [decoder.new_row() for _ in tokens]
    for row, prompt in zip(rows, tokens, strict=True):
        reads.prefill(decoder, row, prompt)
    together = reads.step(decoder, rows, tokens[:, 0])
    decoder.truncate(rows[0], tokens.shape[1])
    alone = reads.step(decoder, rows[:1], tokens[:1, 0])
    for row in rows:
        decoder.free(row)
    return np.array_equal(together[0], alone[0])


def divergence(model: gpt2onnx.Model, reference: gpt2onnx.Model) -> float:
    """Mean KL in nats along the same tokens."""
    agreement = Agreement()
    agreement.add(logits(reference), logits(model))
    return agreement.kl_mean


def logits(model: gpt2onnx.Model) -> np.ndarray:
    row = model.decoder.new_row()
    found = reads.extend(model.decoder, row, ids(model, 64))
    model.decoder.free(row)
    return found


def ids(model: gpt2onnx.Model, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, model.decoder.vocab_size, count)


if __name__ == "__main__":
    main()
