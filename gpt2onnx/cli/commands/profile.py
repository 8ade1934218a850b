"""gpt2onnx profile: where a model's time goes, operator by operator."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from gpt2onnx.cli.options.model import add_graph, add_provider, find_model
from gpt2onnx.cli.output.table import table
from gpt2onnx.cli.parser import Parser
from gpt2onnx.errors import printable
from gpt2onnx.runtime.folder.model_folder import ModelFolder, open_folder
from gpt2onnx.runtime.profiling.profile import Phase, Profile, profile
from gpt2onnx.runtime.profiling.roofline import ARITHMETIC
from gpt2onnx.runtime.profiling.work import Work

DESCRIPTION = """\
Shows where a model's time goes, for a prompt and for a step after it: by
operator, as ONNX Runtime's profiler measures it (medians of several runs); all
operators together; the same without the profiler; and the roofline. The
roofline is the least time that the machine allows: weights and cache read once,
at the bandwidth that as many threads reach here on as many bytes; or, where
gpt2onnx-kernels are installed to measure that, all multiply-adds, if those take
longer. Other providers than the CPU have no roofline, and an operator's time
there may be its launch alone."""
EXAMPLES = [
    "gpt2onnx profile gpt2-int8",
    "gpt2onnx profile gpt2-int8 --context 900 --threads 1 --json",
]
LENGTH, STEPS = 512, 32


def parser() -> Parser:
    parser = Parser("profile", "DIR", DESCRIPTION, EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="model folder, or demo, the bundled one")
    parser.add_argument(
        "--prompt-length",
        type=int,
        metavar="N",
        help=f"tokens of the prompt (default: {LENGTH}, or what the model has room for)",
    )
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help=f"tokens before a step (default: {LENGTH}, or what the model has room for)",
    )
    parser.add_argument(
        "--steps", type=int, default=STEPS, metavar="N", help=f"steps to take (default: {STEPS})"
    )
    model = parser.add_argument_group("model")
    add_provider(model)
    add_graph(model)
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="all of it as one JSON object")
    return parser


def run(args: argparse.Namespace) -> int:
    folder = open_folder(find_model(args.folder, args.provider))
    longest = folder.n_positions
    work = Work(
        prompt_length=min(LENGTH, longest) if args.prompt_length is None else args.prompt_length,
        context=min(LENGTH, longest - 1) if args.context is None else args.context,
        steps=args.steps,
    )
    found = profile(folder, work, args.provider, args.provider_options, args.threads, args.graph)
    about = {"model": args.folder, **_made(folder)}
    print(_as_json(about, found) if args.json else _as_text(about, found))
    return 0


def _made(folder: ModelFolder) -> dict[str, str | None]:
    """What its export said; another exporter's folder says nothing."""
    manifest = folder.manifest or {}
    return {"precision": manifest.get("precision"), "graph": manifest.get("graph")}


def _as_json(about: dict[str, Any], found: Profile) -> str:
    phases = {
        name: {**asdict(phase), "operators_ms": phase.operators_ms, "ratio": phase.ratio}
        for name, phase in (("prompt", found.prompt), ("decode", found.decode))
    }
    return json.dumps({**about, **asdict(found), **phases}, ensure_ascii=False)


def _as_text(about: dict[str, Any], found: Profile) -> str:
    graph = f"{found.kernels} kernels" if found.kernels else about["graph"]
    kind = ", ".join(str(value) for value in (about["precision"], graph) if value)
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    lines = [
        f"{about['model']}: {printable(kind or 'another exporter')}; {found.provider}, {threads}; "
        f"weights {found.weight_bytes / 1e6:.1f} MB, "
        f"cache {found.cache_bytes_per_token / 1e3:.1f} kB a token\n{found.choice}",
        f"\na prompt of {found.prompt.tokens} tokens\n{_table(found.prompt, found)}",
        f"\na step after {found.decode.tokens} tokens\n{_table(found.decode, found)}",
    ]
    return "\n".join(lines)


def _table(phase: Phase, found: Profile) -> str:
    rows = [
        (each.operator, str(each.calls), f"{each.ms:.3f}", f"{each.share:.1%}")
        for each in phase.operators
    ]
    calls = sum(each.calls for each in phase.operators)
    rows += [
        ("all operators", str(calls), f"{phase.operators_ms:.3f}", ""),
        ("without the profiler", "", f"{phase.measured_ms:.3f}", ""),
    ]
    if phase.roofline_ms is not None:
        told = f"{_bound(phase, found)}; measured is {phase.ratio:.1f} times the roofline"
        rows += [("roofline", "", f"{phase.roofline_ms:.3f}", told)]
    return table([("operator", "calls", "ms", "share"), *rows])


def _bound(phase: Phase, found: Profile) -> str:
    """What the roofline is made of: reading, or arithmetic."""
    if phase.bound == ARITHMETIC:
        assert phase.operations
        assert found.arithmetic
        done, most = phase.operations / 1e9, found.arithmetic / 1e9
        return f"{done:.2f} G operations at {most:.1f} a second"
    assert found.bandwidth
    return f"{phase.bytes_read / 1e6:.1f} MB at {found.bandwidth / 1e9:.1f} GB/s"
