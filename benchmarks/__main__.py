"""scripts/bench: what is asked for, and where it goes."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.environments import InstallError
from benchmarks.machine import load, machine
from benchmarks.process import ROOT
from benchmarks.report import markdown, split_at_markers, write_between_markers
from benchmarks.results import BARS
from benchmarks.run import Benchmark, say
from benchmarks.variants import PICTURE, PRECISIONS, Variant, others, ours
from gpt2onnx.paths import cache_folder

DESCRIPTION = """\
Runs one GPT-2 checkpoint through gpt2onnx and every other engine, in turn, and writes bench.json,
bench.md and bench.svg into --out. docs/benchmarks.md says what is measured and how."""
# --quick begins no further round after that: what is left to do takes a minute.
QUICK_S = 180.0
SHAPE = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")


def main() -> int:
    arguments = parser().parse_args()
    try:
        variants = choose(arguments)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    started, clock = datetime.now(UTC), time.monotonic()
    before = load()
    say(f"{len(variants)} variants; the last minute's load here is {before:.1f}")
    benchmark = Benchmark(
        variants,
        arguments.checkpoint.resolve(),
        arguments.environments,
        arguments.out,
        arguments.threads,
        arguments.rounds or (2 if arguments.quick else 5),
        arguments.quick,
        QUICK_S if arguments.quick else float("inf"),
    )
    try:
        benchmark.run()
    except KeyboardInterrupt:
        print("bench: interrupted, nothing written", file=sys.stderr)
        return 130
    found = as_json(benchmark, started, time.monotonic() - clock, before)
    write(found, arguments)
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=DESCRIPTION)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="DIR",
        help="a GPT-2 checkpoint, such as benchmarks.checkpoints.random_weights writes",
    )
    names = sorted({variant.peer for variant in others()})
    parser.add_argument(
        "--peers", default=",".join(names), metavar="A,B", help=f"of {', '.join(names)}"
    )
    parser.add_argument(
        "--ours", default=",".join(PRECISIONS), metavar="A,B", help=f"of {', '.join(PRECISIONS)}"
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="a process (default 2)")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="counted ones (default 5, with --quick 2)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="less of everything, in five minutes once environments and models are made: no "
        "context of 900, no batch of 32, nothing that compiles",
    )
    parser.add_argument(
        "--environments",
        type=Path,
        default=cache_folder() / "bench",
        metavar="DIR",
        help="where the engines' environments are made (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/bench"),
        metavar="DIR",
        help="results, logs and converted models (default: %(default)s)",
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the table into this file, between its marks"
    )
    return parser


def choose(arguments: argparse.Namespace) -> list[Variant]:
    """The variants asked for, ours first. Raises ValueError."""
    if arguments.threads < 1:
        raise ValueError(f"--threads {arguments.threads}: expected 1 or more")
    if arguments.rounds is not None and arguments.rounds < 1:
        raise ValueError(f"--rounds {arguments.rounds}: expected 1 or more")
    if arguments.write:
        split_at_markers(arguments.write)
    everyone = others()
    peers = named(arguments.peers, {variant.peer for variant in everyone}, "--peers")
    if not (arguments.checkpoint / "config.json").is_file():
        raise ValueError(f"--checkpoint {arguments.checkpoint}: expected a folder with config.json")
    chosen = [each for each in everyone if each.peer in peers]
    chosen = [each for each in chosen if not (arguments.quick and each.slow)]
    return [ours(name) for name in named(arguments.ours, set(PRECISIONS), "--ours")] + chosen


def named(text: str, known: set[str], option: str) -> list[str]:
    """A list of names. Raises ValueError."""
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{option} {unknown[0]}: expected some of {', '.join(sorted(known))}")
    return names


def as_json(
    benchmark: Benchmark, started: datetime, seconds: float, before: float
) -> dict[str, object]:
    """results.py says what is in it."""
    variants = [result.as_json() for result in benchmark.results.values()]
    return {
        "machine": machine(),
        "checkpoint": {name: benchmark.config[name] for name in SHAPE},
        "settings": {
            "threads": benchmark.threads,
            "rounds": benchmark.rounds,
            "quick": benchmark.quick,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(seconds),
            "load_before": before,
        },
        "reference": benchmark.reference,
        "variants": variants,
        "bars": [bar.measure(variants) for bar in BARS],
    }


def write(found: dict[str, object], arguments: argparse.Namespace) -> None:
    """The JSON file, the table and the picture."""
    out: Path = arguments.out
    (out / "bench.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = markdown(found)
    (out / "bench.md").write_text(text, encoding="utf-8")
    print(text)
    if draw(arguments.environments, out) and arguments.write:
        picture = arguments.write.with_suffix(".svg")
        shutil.copy(out / "bench.svg", picture)
        text += f"\n![the same as bars, ours in green]({picture.name})\n"
    if arguments.write:
        write_between_markers(arguments.write, text)


def draw(environments: Path, out: Path) -> bool:
    """bench.svg, where matplotlib can be installed."""
    try:
        PICTURE.make(environments)
    except InstallError as error:
        say(f"no picture: {error}")
        return False
    script = [PICTURE.python(environments), ROOT / "benchmarks" / "picture.py"]
    subprocess.run([*script, out / "bench.json", out / "bench.svg"], check=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
