"""From a process' start to its first token, and the memory that it has while it generates.

    python -m benchmarks.micro.start FOLDER [--rounds 10] [--against OTHER_CHECKOUT]

Whole processes, in turns: with the start-up cache (made by a first run that isn't counted), without
it, and `gpt2onnx` of another checkout. Time is the wall clock's from start to exit for one token of
"def main("; processor time is user and system, all threads. Memory is measured after 64 tokens on a
prompt of 128: resident (Rss, mapped files counted in), proportional (Pss, shared pages divided),
the process's own (Anonymous), and the most that was ever resident.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.micro.driver import Report, Timed, in_turn, timed

ROOT = Path(__file__).parents[2]
MEMORY = Path(__file__).with_name("memory.py")  # of any checkout
PROMPT, FIELDS = "def main(", ("Rss", "Pss", "Anonymous")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    arguments = parser.parse_args()
    compare(arguments.folder, arguments.rounds, arguments.against)


def compare(folder: str, rounds: int, against: Path | None) -> None:
    arms = {"with the cache": (ROOT, "4G"), "without": (ROOT, "0")}
    if against:
        arms |= {f"{against}, with the cache": (against, "4G"), str(against): (against, "0")}
    processors: dict[str, list[float]] = {name: [] for name in arms}
    runs = {name: partial(start, folder, *arm, processors[name]) for name, arm in arms.items()}
    results = in_turn(runs, rounds)
    report = Report(
        *("way", "ms", "least ms", "processor ms", *(f"{name} MB" for name in FIELDS), "peak MB"),
        *("same text", "start-up cache"),
    )
    for name, (root, size) in arms.items():
        used = json.loads(python(root, size, str(MEMORY), folder))
        result, processor = results[name], statistics.median(processors[name][1:])
        report.row(
            *(name, result.ms, result.least_ms, processor * 1e3),
            *(*(used[field] for field in FIELDS), used["peak"]),
            *(result.answer == results["without"].answer, used["startup"]),
        )
    report.end(folder=folder, rounds=rounds)


def start(folder: str, root: Path, size: str, processors: list[float]) -> Timed:
    """Seconds of a process that writes one token, and what it wrote; notes processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call = ["-m", "gpt2onnx", "generate", PROMPT, "--max-new-tokens", "1", "--model", folder]
    seconds, text = timed(lambda: python(root, size, *call))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    processors.append(used)
    return Timed(seconds, text)


def python(root: Path, size: str, *arguments: str) -> str:
    own = {"PYTHONPATH": str(root), "GPT2ONNX_STARTUP_CACHE_SIZE": size}
    # With the checkout's bytecode kept, as pip keeps that of what it installs.
    environment = os.environ | own | {"PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, cwd=root, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


if __name__ == "__main__":
    main()
