"""From a process' start to its first token, and the memory that it has while it generates.

    python scripts/bench_start.py FOLDER [--rounds 10] [--against OTHER_CHECKOUT]

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
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROMPT, CONTEXT, TOKENS = "def main(", 128, 64
FIELDS = ("Rss", "Pss", "Anonymous")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(memory(arguments.folder)))
    else:
        compare(arguments.folder, arguments.rounds, arguments.against)


def compare(folder: str, rounds: int, against: Path | None) -> None:
    arms = {"with the cache": (ROOT, "4G"), "without": (ROOT, "0")}
    if against:
        arms[str(against)] = (against, "0")
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    texts: dict[str, str] = {}
    for turn in range(rounds + 1):
        for name, (root, size) in arms.items():
            seconds, processor, texts[name] = start(folder, root, size)
            if turn:
                samples[name].append((seconds, processor))
    print(f"{'':16} start to exit, ms: median, least   processor   {'   '.join(FIELDS)}   peak, MB")
    for name, (root, size) in arms.items():
        walls, processors = zip(*samples[name], strict=True)
        used = json.loads(python(root, size, str(Path(__file__).resolve()), folder, "--worker"))
        print(
            f"{name:16} {statistics.median(walls) * 1e3:23.0f} {min(walls) * 1e3:7.0f}"
            f"{statistics.median(processors) * 1e3:12.0f}"
            f"{used['Rss']:9.0f} {used['Pss']:5.0f} {used['Anonymous']:8.0f} {used['peak']:9.0f}"
            f"   the same text: {texts[name] == texts['without']}, {used['startup']}"
        )


def start(folder: str, root: Path, size: str) -> tuple[float, float, str]:
    """Wall and processor seconds of a process that writes one token, and what it wrote."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    call = ["-m", "gpt2onnx", "generate", PROMPT, "--max-new-tokens", "1", "--model", folder]
    text = python(root, size, *call)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, processor, text


def python(root: Path, size: str, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(root), "GPT2ONNX_STARTUP_CACHE_SIZE": size}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, cwd=root, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


def memory(folder: str) -> dict[str, float | str]:
    """Megabytes of this process while it generates."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does
    import gpt2onnx

    model = gpt2onnx.load(folder, provider="cpu")
    prompt = list(range(1000, 1000 + CONTEXT))
    tokens = model.stream(prompt, max_new_tokens=TOKENS + 1, min_new_tokens=TOKENS + 1)
    for _ in range(TOKENS):
        next(tokens)
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    fields = {line.partition(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    startup = getattr(model.session, "startup", "no start-up cache")
    return {**{name: fields[name] for name in FIELDS}, "peak": peak, "startup": startup}


if __name__ == "__main__":
    main()
