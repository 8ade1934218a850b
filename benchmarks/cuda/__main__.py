"""Everything that a CUDA device has to show, in one command: right answers, then times.

    python -m benchmarks.cuda [--checkpoint DIR] [--out FILE.json] [--minutes 8]
    python -m benchmarks.cuda --only fp16              # or torch, int8, fp32, int4
    python -m benchmarks.cuda --device cpu --quick     # the same code without a device

Wants onnx and onnxruntime-gpu; torch and transformers for the comparison. Without --checkpoint a
GPT-2 124M with random weights is written. In every precision it is exported for the device and

- its logits compared with the CPU's in fp32, in steps plain and as CUDA graphs, over a cache that
  grows on the way; rows of unequal lengths compared with each alone; beams with the same model's on
  the CPU; fp16's logits with torch's,
- a decode step timed at each batch, plain and as CUDA graphs: the decoder's alone with all logits
  on the host, and with the largest alone, and the whole loop's, greedy and drawn, the sampler's
  time included; behind a short and a long context in an arena of the same size; a prompt;
  transformers eager and compiled with a static cache in half precision, argmax on the device.

Each precision, and torch, has a process of its own: after an error on the device nothing more runs
in the same one. Parts that fail print their traceback, those for which no time is left say so, and
logits that are further off than a precision explains are an error. The JSON is written after every
part; Markdown tables and the JSON on one line come last.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gpt2onnx
from benchmarks.cuda.answers import agreement, beams, graphs, independence
from benchmarks.cuda.bench import Bench, keep
from benchmarks.cuda.pytorch import torch_agreement, torch_time
from benchmarks.cuda.times import loop_time, prompt_time, step_time
from benchmarks.markdown_table import table

TORCH = "torch"
GROUPS = ("fp16", TORCH, "int8", "fp32", "int4")


def parts(bench: Bench, group: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is to be found out of a precision, or of torch; the right answers first."""
    yield from (torch_parts(bench) if group == TORCH else precision_parts(bench, group))


def precision_parts(bench: Bench, precision: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    for mode in bench.modes:
        how = (bench, precision, mode)
        name = f"{precision} {mode}"
        yield f"agreement {name}", partial(agreement, *how)
        yield f"rows {name}", partial(independence, *how)
        yield f"beams {name}", partial(beams, *how)
    if len(bench.modes) > 1:
        yield f"graphs {precision}", partial(graphs, bench, precision)
    for mode in bench.modes:
        how = (bench, precision, mode)
        for batch in bench.batches:
            name = f"{precision} {mode}, batch {batch}"
            yield f"step {name}", partial(step_time, *how, batch)
            yield f"step_largest {name}", partial(step_time, *how, batch, "step_largest")
            yield f"loop {name}", partial(loop_time, *how, batch)
            yield f"drawn {name}", partial(loop_time, *how, batch, drawn=True)
        for context in bench.contexts:
            for batch in bench.batches[:2]:
                name = f"{precision} {mode}, batch {batch}, context {context}"
                yield f"step {name}", partial(step_time, *how, batch, context=context)
    yield f"prompt {precision}, {bench.contexts[-1]}", partial(prompt_time, bench, precision)


def torch_parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Any]]]:
    for half in (False, True):
        name = "torch fp16" if half else "torch fp32"
        yield name, partial(torch_agreement, bench, half)
    for batch in bench.batches:
        yield f"eager, batch {batch}", partial(torch_time, bench, batch, compiled=False)
    if bench.args.device == "cuda":
        for batch in (bench.batches[0], *bench.batches[:0:-1]):  # the smallest, then the largest on
            yield f"compiled, batch {batch}", partial(torch_time, bench, batch, compiled=True)


def machine() -> dict[str, Any]:
    import importlib.metadata as metadata
    import platform
    import shutil

    found: dict[str, Any] = {"python": platform.python_version()}
    for package in ("onnxruntime", "onnxruntime-gpu", "torch", "transformers", "numpy", "onnx"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        found["gpu"] = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    return found | {"gpt2onnx": gpt2onnx.__version__}


def tables(found: dict[str, Any]) -> str:
    """Agreement and times as Markdown."""
    answers, times = [], []
    for name, value in found.items():
        if "allowed" in value:
            of_logits = [f"{value['top1']:.2%}", f"{value['kl']:.2g}"] if "kl" in value else "--"
            answers.append([name, f"{value['max']:.3g}", f"{value['allowed']:.3g}", *of_logits])
        if "tokens/s" in value:
            ms, p95, speed = value["ms"], value["p95 ms"], value["tokens/s"]
            times.append([name, f"{ms:.3f}", f"{p95:.3f}", f"{speed:,.0f}"])
    agreement = table(["", "largest error", "allowed", "top-1", "KL"], answers)
    return f"{agreement}\n\n{table(['', 'ms', 'p95', 'tokens/s'], times)}"


def apart(bench: Bench, group: str) -> None:
    """A group in a process of its own, what it finds into ours."""
    args, out = bench.args, bench.folder / f"{group}.json"
    minutes = max(0.0, bench.ends - time.monotonic()) / 60
    command = [sys.executable, "-m", "benchmarks.cuda", "--only", group, "--device", args.device]
    command += ["--folder", str(bench.folder), "--out", str(out), "--minutes", str(minutes)]
    command += ["--checkpoint", str(args.checkpoint)] if args.checkpoint else []
    command += ["--quick"] if args.quick else []
    status = subprocess.run(command).returncode
    if out.exists():
        bench.found |= json.loads(out.read_text())
    if status not in (0, 1):
        bench.found[group] = {"error": f"its process ended with status {status}"}
    keep(bench.found, args.out)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cuda", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", choices=GROUPS, help="this precision, or torch, alone")
    parser.add_argument("--quick", action="store_true", help="the bundled model, few steps")
    parser.add_argument("--checkpoint", type=Path, help="a GPT-2 (default: random weights, 124M)")
    parser.add_argument("--minutes", type=float, default=8, help="begin no part after that")
    parser.add_argument("--folder", type=Path, help="keep what is exported there, and use it again")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    args = parser.parse_args()
    for folder in filter(None, (args.folder, args.out and args.out.parent)):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, args.folder or Path(folder))
        if args.only:
            for name, run in parts(bench, args.only):
                bench.part(name, run)
        else:
            bench.part("machine", machine)
            for group in GROUPS:
                apart(bench, group)
            print(tables(bench.found))
    print(json.dumps(bench.found))
    failed = [name for name, value in bench.found.items() if "error" in value]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
