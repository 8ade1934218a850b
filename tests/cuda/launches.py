"""What a model launches and copies on a CUDA device, counted without one.

    python -m tests.cuda.launches MODEL_FOLDER… [--batch 1,8] [--context 32] [--cuda-graph]
        [--kernels]

Runs folders that were exported with `--device cuda` on ONNX Runtime's real CUDA provider over a
stand-in for CUDA's libraries (stand_in/). ONNX Runtime decides as ever which node runs where,
by which kernel, and what it copies; kernels compute nothing. So there are launches and copies here,
no times and no answers.

Wants onnxruntime-gpu and two packages of CUDA's headers, no driver and no other library, and g++:

    pip install --target DIR --no-deps onnxruntime-gpu==1.31.1 \\
        'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*'
    PYTHONPATH=DIR python -m tests.cuda.launches MODEL_FOLDER

Prints a Markdown table: a prompt, a decode step that brings the logits and one that brings the
largest alone, as greedy decoding takes it, both when ONNX Runtime has warmed up. Exits with 1
where CUDA would have refused something (a grid without blocks, waiting inside a capture), where the
model didn't run to its end, and where a step was to be one CUDA graph and isn't.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.markdown_table import table
from tests.cuda.stand_in import build, record

NOTE = (
    "Launches and copies over a stand-in for CUDA's libraries that calls itself an H200 and has no "
    "cuDNN. Kernels compute nothing: no times, no answers."
)
COLUMNS = {  # the record's kinds
    "kernels": "kernel",
    "cuBLAS products": "product",
    "memsets": "memset",
    "copies on the device": "on the device",
    "to the device": "to the device",
    "from it": "from the device",
    "synchronizations": "synchronization",
    "allocations": "allocation",
    "graphs": "graph",
}
LONGEST = 100  # of a kernel's name: CUTLASS's arguments fill pages
RUN = Path(__file__).parent / "stand_in" / "run.py"


@dataclass(frozen=True)
class Watched:
    """What was seen of one model at one number of rows."""

    model: Path
    batch: int
    context: int
    captures: bool  # whether steps were to be CUDA graphs
    said: str  # where the model's nodes are
    parts: list[record.Part]
    failure: str  # what was raised, if it was

    def last(self, part: str) -> record.Part:
        """The last part whose name begins so; an empty one if there is none."""
        found = [it for it in self.parts if it.name.startswith(part)]
        return found[-1] if found else record.Part(part, [])

    @property
    def prompt(self) -> record.Part:
        return self.last("prompt")

    @property
    def step(self) -> record.Part:
        return self.last("step")

    @property
    def captured(self) -> record.Part:
        """What went into the steps' graph."""
        events = [event for part in self.parts for event in part.events]
        inside = [event for event in events if event.kind.startswith(record.CAPTURED)]
        return record.Part("captured", [event.launched() for event in inside])

    def faults(self) -> Iterator[str]:
        for part in self.parts:
            for name, times in Counter(event.name for event in part.of("refused")).items():
                yield f"refused in {part.name}, {times} x: {name}"
        graphs, kernels = len(self.step.of("graph")), len(self.step.of("kernel"))
        if self.failure:
            yield self.failure
        elif self.captures and (graphs, kernels) != (1, 0):
            yield f"a step is {graphs} graphs and {kernels} kernels: expected one graph alone"


def main() -> None:
    args = arguments()
    try:
        with tempfile.TemporaryDirectory() as folder:
            names = build.build(build.provider(), Path(folder))
            found = [
                watch(Path(folder), names, model, batch, args.context, args.cuda_graph)
                for model in args.models
                for batch in args.batch
            ]
    except build.BuildError as error:
        sys.exit(str(error))
    for line in report(found, args.kernels):
        print(line)
    faults = [f"{label(watched)}: {fault}" for watched in found for fault in watched.faults()]
    sys.exit("\n".join(faults) or None)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cuda.launches",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", type=model_folder, metavar="MODEL_FOLDER")
    parser.add_argument("--batch", type=counts, default=[1], help="rows of a step: 1 or 1,8")
    parser.add_argument("--context", type=count, default=32, help="tokens before the steps")
    parser.add_argument("--cuda-graph", action="store_true", help="steps as CUDA graphs")
    parser.add_argument("--kernels", action="store_true", help="name the kernels")
    return parser.parse_args()


def model_folder(text: str) -> Path:
    if not (Path(text) / "model.onnx").is_file():
        raise argparse.ArgumentTypeError(f"{text} has no model.onnx: expected a model folder")
    return Path(text)


def counts(text: str) -> list[int]:
    return [count(part) for part in text.split(",")]


def count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text!r}")
    return int(text)


def watch(
    stand_in: Path, names: Sequence[str], model: Path, batch: int, context: int, captures: bool
) -> Watched:
    """Run a model in a process of its own, over the libraries `names` of the folder `stand_in`."""
    recorded = stand_in / "record"
    recorded.write_text("")
    environment = build.environment(stand_in, names) | {"CUDA_STAND_IN_RECORD": str(recorded)}
    options = json.dumps({"enable_cuda_graph": str(int(captures))})
    done = subprocess.run(
        [sys.executable, RUN, model, str(batch), str(context), options],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    lines = recorded.read_text().splitlines()
    failure = ""
    if done.returncode:
        failure = (
            f"ended with {done.returncode}: {(done.stderr.splitlines() or ['in silence'])[-1]}"
        )
    said = done.stdout.strip()
    return Watched(model, batch, context, captures, said, record.parts(lines), failure)


def report(found: Sequence[Watched], kernels: bool) -> Iterator[str]:
    """The lines of the Markdown, of the models that ran to their end."""
    whole = [watched for watched in found if not watched.failure]
    if not whole:
        return
    yield from (NOTE, "")
    yield from dict.fromkeys(f"- {watched.model.name}: {watched.said}" for watched in whole)
    yield from ("", *table(["", *COLUMNS], rows(whole)).splitlines())
    for watched in whole if kernels else []:
        yield from ("", *kernel_table(watched).splitlines())


def rows(found: Sequence[Watched]) -> Iterator[list[str]]:
    seen = set()
    for watched in found:
        if watched.model not in seen:  # prompts run row by row, so they are alike at any batch
            seen.add(watched.model)
            yield _row(f"{watched.model.name}, a prompt of {watched.context}", watched.prompt)
        yield _row(f"{label(watched)}, a step", watched.step)
        if (greedy := watched.last("greedy step")).events:
            yield _row(f"{label(watched)}, a greedy step", greedy)
        if watched.captures:
            yield _row(f"{label(watched)}, its graph", watched.captured)


def label(watched: Watched) -> str:
    return f"{watched.model.name}, {watched.batch} row{'s' if watched.batch > 1 else ''}"


def _row(label: str, part: record.Part) -> list[str]:
    return [label, *(_cell(part.of(kind)) for kind in COLUMNS.values())]


def _cell(events: Sequence[record.Event]) -> str:
    """How many, and their bytes where they have any."""
    size = sum(event.bytes for event in events)
    return f"{len(events)}" + (f" ({size:,} B)" if size else "")


def kernel_table(watched: Watched) -> str:
    """Kernels by how often a step launches them, or its graph holds them."""
    step = (watched.captured if watched.captures else watched.step).kernels()
    prompt = watched.prompt.kernels()
    names = sorted(step | prompt, key=lambda name: (-step[name], -prompt[name], name))
    lines = [[f"`{_cut(name)}`", str(prompt[name]), str(step[name])] for name in names]
    return table([f"{label(watched)}: kernel", "a prompt", "a step"], lines)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


if __name__ == "__main__":
    main()
