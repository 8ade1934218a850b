"""A batch job's speed for each core, beside a step of 32 rows; and a long job that is killed.

    python -m benchmarks.batch speed MODEL [--new 64] [--prompts 512] [--rounds 3]
    python -m benchmarks.batch killed [MODEL] [--prompts 100000] [--new 16] [--workers 2]

`speed` answers prompts of 4 to 32 tokens with one thread, in this process, in turn with the task
that `scripts/bench` calls batch_32: 32 rows of 32 tokens, 16 steps, all of them decoding alone. A
job reads its prompts, draws, decodes texts and writes lines, too. Times are the processor's, which
others on the machine don't lengthen. A job reads prompts as well, and behind more tokens: "read"
counts the prompts' tokens, too, and "decoder_share" is the part of its time that the decoder takes.

`killed` runs `gpt2onnx batch` and kills -9 a worker, the job, and a worker again, then goes on;
counts that each line was answered once, and compares a sample with what `generate` gives alone.
Each prints a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gpt2onnx
from benchmarks.decoder_time import decoder_time
from benchmarks.tasks import Task
from gpt2onnx.batch.answering import Answerer, Terms
from gpt2onnx.batch.lines import Line
from gpt2onnx.batch.records import Kind, Record
from gpt2onnx.runtime.decoder import reads

TASK = Task(32, 32, 17)
WORDS = (
    *("def", "class", "return", "import", "for", "in", "range", "self", "print", "x", "None"),
    *("True", "with", "open", "as", "file", "if", "not", "raise", "ValueError", "len", "0"),
)
SAMPLE = 100


def prompts(count: int, seed: int = 0) -> list[str]:
    """Random words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(4, 24))) for _ in range(count)]


def busy(work: Callable[[], int]) -> tuple[float, float]:
    """Tokens a second of the processor's time, and of the clock's, of work that gives tokens."""
    processor, clock = time.process_time(), time.perf_counter()
    tokens = work()
    return tokens / (time.process_time() - processor), tokens / (time.perf_counter() - clock)


def steps(model: gpt2onnx.Model) -> tuple[float, float]:
    """What a step of 32 rows gives: the median of 16."""
    decoder = model.decoder
    ids = np.array(TASK.prompts(decoder.vocab_size))
    decoder.reserve(TASK.rows, TASK.context + TASK.count)
    rows = [decoder.new_row() for _ in ids]
    logits = np.stack(
        [reads.prefill(decoder, row, each) for row, each in zip(rows, ids, strict=True)]
    )
    rates = []
    for _ in range(TASK.count - 1):
        chosen = logits.argmax(axis=1)

        def step(chosen: Any = chosen) -> int:
            nonlocal logits
            logits = reads.step(decoder, rows, chosen)
            return TASK.rows

        rates.append(busy(step))
    for row in rows:
        decoder.free(row)
    return statistics.median(r[0] for r in rates), statistics.median(r[1] for r in rates)


def job(model: gpt2onnx.Model, count: int, new: int) -> tuple[float, float, float, float]:
    """What a worker's engine gives, lines in and records out; the tokens that it reads a second of
    the processor's; the part of that time in which it reads them.
    """
    terms = Terms("text", {"max_new_tokens": new, "eos_token_id": []})
    lines = [Line(n, text.encode()) for n, text in enumerate(prompts(count), 1)]
    taken: list[Record] = []

    async def answer() -> None:
        answerer = Answerer(engine, 32, terms)
        halves = lines[: count // 2], lines[count // 2 :]
        await asyncio.gather(*(answerer.answer(each, taken.append) for each in halves))

    def work() -> int:
        asyncio.run(answer())
        return sum(record.written for record in taken)

    with (
        decoder_time(model, time.thread_time) as spent,
        gpt2onnx.Engine(model, max_rows=32, max_waiting=count, prefix_cache="256M") as engine,
    ):
        rates = busy(work)
        tokens_read = engine.stats().tokens_read
    assert all(record.kind is Kind.ANSWER for record in taken)
    seconds = sum(record.written for record in taken) / rates[0]
    return (*rates, tokens_read / seconds, spent[0] / seconds)


def speed(args: argparse.Namespace) -> dict[str, Any]:
    model = gpt2onnx.load(args.model, provider="cpu", threads=1)
    rounds = [(steps(model), job(model, args.prompts, args.new)) for _ in range(args.rounds + 1)][
        1:
    ]
    step, whole = (statistics.median(r[which][0] for r in rounds) for which in (0, 1))
    read, share = (statistics.median(job[which] for _, job in rounds) for which in (2, 3))
    return {
        "batch_32_tokens_per_cpu_s": step,
        "job_tokens_per_cpu_s": whole,
        "ratio": whole / step,
        "job_tokens_read_per_cpu_s": read,
        "ratio_of_read": read / step,
        "decoder_share": share,
        "ratio_by_the_clock": statistics.median(r[1][1] / r[0][1] for r in rounds),
    }


def killed(args: argparse.Namespace) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="gpt2onnx-batch-"))
    given, output = folder / "prompts.txt", folder / "answers.jsonl"
    texts = prompts(args.prompts)
    given.write_text("".join(f"{text}\n" for text in texts))
    call = [sys.executable, "-m", "gpt2onnx", "batch", str(given), str(output)]
    options = ["--model", args.model, "--workers", str(args.workers), "--threads", "1"]
    options += ["--max-new-tokens", str(args.new), "--provider", "cpu", "--resume"]
    runs, began = _run_and_kill([*call, *options], folder / "said", args.pause)
    seconds = time.monotonic() - began
    found = [json.loads(line) for line in output.read_text().splitlines()]
    named = {each["custom_id"]: each["response"]["body"] for each in found}
    written = sum(each["usage"]["completion_tokens"] for each in named.values())
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    report = {
        "prompts": args.prompts,
        "answers": len(found),
        "names": len(named),
        "runs": runs,
        "seconds": seconds,
        "tokens": written,
        "tokens_per_second": written / seconds,
        "largest_process_mb": largest / 1024,
        "equal_of_sample": _equal(args, texts, named),
        "sample": SAMPLE,
    }
    shutil.rmtree(folder)
    return report


def _run_and_kill(call: list[str], said: Path, pause: float) -> tuple[int, float]:
    """Run a job to its end with three kills on the way: how often it ran, and since when."""
    began, victims = time.monotonic(), ["worker", "job", "worker"]
    for run in range(1, 10):
        with said.open("ab") as file, subprocess.Popen(call, stderr=file) as process:
            while victims and process.poll() is None:
                time.sleep(pause)
                if _kill(process.pid, victims[0]) and victims.pop(0) == "job":
                    break
            if process.wait() == 0:
                return run, began
    raise SystemExit(said.read_text())


def _kill(job: int, victim: str) -> bool:
    workers = Path(f"/proc/{job}/task/{job}/children").read_text().split()
    if not workers:
        return False
    os.kill(job if victim == "job" else int(workers[0]), signal.SIGKILL)
    print(f"killed a {victim}", file=sys.stderr)
    return True


def _equal(args: argparse.Namespace, texts: list[str], named: dict[str, Any]) -> int:
    """How many of a sample have the text that generate gives alone."""
    model = gpt2onnx.load(args.model, provider="cpu", threads=1)
    numbers = random.Random(1).sample(range(args.prompts), min(SAMPLE, args.prompts))
    return sum(
        named[f"line-{n + 1}"]["choices"][0]["text"]
        == model.generate(texts[n], max_new_tokens=args.new).text
        for n in numbers
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    fast = commands.add_parser("speed")
    fast.add_argument("model")
    fast.add_argument("--prompts", type=int, default=512)
    fast.add_argument("--new", type=int, default=64)
    fast.add_argument("--rounds", type=int, default=3)
    fast.set_defaults(run=speed)
    long = commands.add_parser("killed")
    long.add_argument("model", nargs="?", default="demo")
    long.add_argument("--prompts", type=int, default=100_000)
    long.add_argument("--new", type=int, default=16)
    long.add_argument("--workers", type=int, default=2)
    long.add_argument("--pause", type=float, default=60, help="seconds between two kills")
    long.set_defaults(run=killed)
    args = parser.parse_args()
    print(json.dumps(args.run(args)))


if __name__ == "__main__":
    main()
