"""gpt2onnx compare: a model's answers, speed and cost on the CPU and on the GPU."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from gpt2onnx import __version__, demo
from gpt2onnx.cli.options.grid import add_grid, places
from gpt2onnx.cli.options.text import read_file
from gpt2onnx.cli.output.bar import Bar
from gpt2onnx.cli.output.report_folder import ReportFolder, earlier
from gpt2onnx.cli.output.table import table
from gpt2onnx.cli.parser import Parser
from gpt2onnx.cli.streams import is_terminal, say
from gpt2onnx.compare.comparison import Comparison
from gpt2onnx.compare.measure.answers import encoded
from gpt2onnx.compare.measure.machine import machine
from gpt2onnx.compare.measure.prompts import PROMPTS
from gpt2onnx.compare.models import Exported
from gpt2onnx.compare.models import Given as Folders
from gpt2onnx.compare.record.asked import SCHEMA_VERSION, Asked, ModelName
from gpt2onnx.compare.record.costs import Prices
from gpt2onnx.compare.record.grid import CPU, KERNELS, Grid
from gpt2onnx.compare.record.record import Record
from gpt2onnx.compare.record.runs import Run
from gpt2onnx.compare.report.findings import findings
from gpt2onnx.compare.report.tables import tables
from gpt2onnx.compare.runtimes.places import Installed
from gpt2onnx.compare.runtimes.start import Starter
from gpt2onnx.errors import Given, ParameterError, Plain, PromptError
from gpt2onnx.flags import refusal
from gpt2onnx.runtime.folder.model_folder import is_model_folder, open_folder
from gpt2onnx.runtime.open_model import open_tokenizer
from gpt2onnx.runtime.ort.kernels import usable_kernels

DESCRIPTION = """\
Runs one model on several providers and in several precisions. Compares answers
with those of the CPU in fp32, and times, memory, cost and, where the machine
can measure it, energy. A provider that can't run is listed with the reason.
Where gpt2onnx-kernels runs, a folder with its graph is measured on both graphs
on the CPU, "cpu int8" and "cpu int8 kernels"; --graph takes one of them.
--runtimes runs it on other runtimes as well, each on the folder that
`gpt2onnx export --for` writes for it and in a process and environment of its
own; one that isn't installed is listed with what installs it.

SOURCE is a checkpoint (a folder, a model id of the hub, or demo, the bundled
model), which is exported into the cache as needed. Or it is several model
folders of one model, one for each precision. Each measurement runs in a process
of its own. OUT gets compare.json, compare.html and compare.md. Ctrl-C keeps
what is done, and --resume continues it, with another --graph as well. The exit
status is 1 if nothing could be run; the verdicts don't change it."""
EXAMPLES = [
    "gpt2onnx compare demo --providers cpu --batch 1,8 --context 32,256",
    "gpt2onnx compare openai-community/gpt2 --cpu-price 0.17 --gpu-price 1.20",
    "gpt2onnx compare demo --runtimes onnxruntime,openvino,genai,node,web",
    "gpt2onnx compare gpt2-fp32 gpt2-int8 --providers cpu --out gpt2-report",
]
PRECISIONS = ("fp32", "int8")


def parser() -> Parser:
    parser = Parser("compare", "SOURCE …", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="a checkpoint, or model folders"
    )
    add_grid(parser)
    parser.add_argument(
        "--prompts", metavar="FILE", help="prompts, one per line; \\n in a line is a newline"
    )
    for place in ("cpu", "gpu"):
        parser.add_argument(
            f"--{place}-price",
            type=float,
            metavar="$/h",
            help=f"price of the {place.upper()}'s machine, dollars per hour",
        )
    parser.add_argument(
        "--out", metavar="DIR", default="compare", help="the folder to write (default: compare)"
    )
    parser.add_argument(
        "--environments",
        metavar="DIR",
        help="where other runtimes are installed: DIR/openvino a virtual environment, DIR/node "
        "with node_modules (default: this Python, and node_modules here)",
    )
    parser.add_argument("--resume", action="store_true", help="continue the record in OUT")
    return parser


def run(args: argparse.Namespace) -> int:
    out = ReportFolder(Path(args.out), Prices(args.cpu_price, args.gpu_price))
    prompts = _prompts(args.prompts)
    providers, runtimes = places(args)
    starter = _starter(args.environments, args.runtimes)
    models = _models(args.sources, args.precisions)
    precisions = models.precisions if isinstance(models, Folders) else args.precisions or PRECISIONS
    grid = Grid(
        *(providers, precisions, args.batch, args.context),
        *(args.new_tokens, args.threads, args.tf32, args.cuda_graph),
        runtimes=runtimes,
        kernels=_kernels(models.kernels, providers, precisions) if args.graph == "auto" else None,
        graph=KERNELS if args.graph == KERNELS else None,
    )
    before = earlier(Path(args.out), args.resume)
    folder = open_folder(models.folder(models.reference))
    grid.check_positions(folder.n_positions)
    encoded(open_tokenizer(folder), prompts, folder.n_positions, grid.new_tokens)
    record = Record(asked=_asked(models, grid, prompts))
    if before is not None:
        for each in out.resume(record, before):
            say(f"gpt2onnx: {each} was measured before and isn't asked for now: it is left out")
    try:
        _compare(Comparison(grid, models, record, runtimes=starter), out)
    except (KeyboardInterrupt, SystemExit):
        if record.answers:
            kept = f"what is done is kept: --resume goes on with {args.out}"
            say(f"gpt2onnx: {kept}")
        raise
    print(_terminal(out.priced(record)))
    return 0 if any(isinstance(each, Run) for each in record.runs) else 1


def _compare(comparison: Comparison, out: ReportFolder) -> None:
    """Run what is left; whatever ends it, all files show what was done."""
    try:
        with Bar("comparing") as bar:
            for done, _ in enumerate(comparison.run()):
                out.save(comparison.record)
                if done:
                    bar(done, comparison.steps)
    finally:
        out.save(comparison.record)
        out.show(comparison.record)


def _asked(models: Exported | Folders, grid: Grid, prompts: list[str]) -> Asked:
    return Asked(
        schema_version=SCHEMA_VERSION,
        gpt2onnx=__version__,
        model=ModelName(models.name, models.identity),
        machine=machine(),
        grid=grid,
        reference=models.reference,
        prompts=prompts,
    )


def _terminal(record: Record) -> str:
    parts = [f"{each.title}\n\n{table(each.rows)}" for each in tables(record)]
    return "\n\n".join([*parts, "\n".join(findings(record))]).strip()


def _models(sources: list[str], precisions: tuple[str, ...] | None) -> Exported | Folders:
    if len(sources) > 1 or is_model_folder(Path(sources[0])):
        if precisions is not None:
            raise ParameterError(
                Given("precisions", Plain(",".join(precisions))),
                " has no effect on model folders, which have their own: leave it out, or give the "
                "checkpoint",
            )
        return Folders(sources)
    # Raises InstallationError where the export's packages are missing.
    from gpt2onnx.export.cached import CachedExports
    from gpt2onnx.export.quantization.table import PRECISIONS as KNOWN
    from gpt2onnx.export.quantization.table import those

    for precision in precisions or ():
        if precision not in KNOWN:
            raise refusal("precisions", Plain(precision), f"some of {', '.join(KNOWN)}")
    (source,) = sources
    exports = CachedExports(demo.BUNDLED.get(source, source), is_terminal(sys.stderr))
    return Exported(source, exports.identity, exports, kernels=those(lambda each: each.kernels))


def _kernels(
    those: tuple[str, ...], providers: tuple[str, ...], precisions: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Which of the precisions have a row for the kernels' graph, too, of `those` that have it."""
    if CPU not in providers or usable_kernels() is None:
        return None
    return tuple(precision for precision in precisions if precision in those) or None


def _starter(environments: str | None, runtimes: tuple[str, ...] | None) -> Starter:
    """Other runtimes where they are installed. Raises ParameterError."""
    if environments is None:
        return Starter()
    if runtimes is None:
        raise ParameterError(
            Given("environments", Plain(environments)),
            " has no effect without ",
            *(Given("runtimes"), ": leave it out, or name some"),
        )
    folder = Path(environments)
    if not folder.is_dir():
        raise ParameterError(Given("environments", Plain(environments)), ": no such folder")
    return Starter(Installed(folder.resolve()))


def _prompts(file: str | None) -> list[str]:
    if file is None:
        return list(PROMPTS)
    lines = (line for line in re.split("\r?\n", read_file(file)) if line.strip())
    prompts = [line.replace("\\n", "\n") for line in lines]
    if not prompts:
        raise PromptError(f"{file}: no prompts: expected one a line")
    return prompts
