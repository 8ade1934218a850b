"""gpt2onnx batch: files of prompts in, files of answers out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gpt2onnx.cli.options.model import add_model, find_model
from gpt2onnx.cli.options.parameters import add_parameters, given_parameters
from gpt2onnx.cli.output.bar import Bar
from gpt2onnx.cli.parser import Parser
from gpt2onnx.cli.streams import say

if TYPE_CHECKING:
    from gpt2onnx.batch.job import BatchReport
    from gpt2onnx.batch.supervisor import BatchProgress

DESCRIPTION = """\
Answers each line of INPUT with a line in OUTPUT: OpenAI's batch lines,
objects with a prompt, or plain text. Files may be compressed with gzip or
zstd; a pattern such as 'parts/*.jsonl' stands for several, - for standard
input. Lines that fail go into a file of errors. A job that was stopped or
killed goes on with --resume: no answer is lost and none comes twice. The
exit status is 1 if any line failed. Needs the packages of gpt2onnx[batch]."""
EXAMPLES = [
    "gpt2onnx batch prompts.txt answers.jsonl --max-new-tokens 40",
    "gpt2onnx batch 'parts/*.jsonl.gz' answers.jsonl --model gpt2-int8 --workers 4",
    "gpt2onnx batch requests.jsonl answers.jsonl --ray auto --resume",
]
FAILED = 1


def parser() -> Parser:
    parser = Parser("batch", "INPUT [INPUT ...] OUTPUT", DESCRIPTION, EXAMPLES)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="a file of lines, or -")
    parser.add_argument("output", metavar="OUTPUT", help="the file of answers, as JSON lines")
    _add_job(parser)
    _add_workers(parser)
    add_model(parser)
    add_parameters(parser)
    return parser


def _add_job(parser: Parser) -> None:
    group = parser.add_argument_group("job")
    group.add_argument(
        "--resume", action="store_true", help="go on with a job that was stopped before its end"
    )
    group.add_argument(
        "--force", action="store_true", help="begin the job anew, and replace the output"
    )
    group.add_argument(
        "--ordered",
        action="store_true",
        help="write answers in the input's order (default: as they come)",
    )
    group.add_argument(
        "--lines",
        default="auto",
        metavar="KIND",
        help="what lines hold: json or text (default: auto, json if the first one begins with {)",
    )
    group.add_argument(
        "--errors",
        metavar="FILE",
        help="where lines that failed go (default: OUTPUT's name with .errors.jsonl)",
    )
    group.add_argument(
        "--name",
        metavar="NAME",
        help="the model's name in bodies, \"model\" (default: its folder's)",
    )


def _add_workers(parser: Parser) -> None:
    group = parser.add_argument_group("workers")
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes, each with an engine (default: one per core on the CPU, else one)",
    )
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run the workers on a Ray cluster: HOST:PORT, ray://HOST:PORT, or auto; needs "
        "gpt2onnx[ray]",
    )
    group.add_argument(
        "--max-rows",
        type=int,
        metavar="N",
        help="sequences that a worker runs at once (default: 32)",
    )
    group.add_argument(
        "--prefix-cache",
        default="256M",
        metavar="SIZE",
        help="a worker's memory for prompts' beginnings (default: 256M)",
    )


def run(args: argparse.Namespace) -> int:
    from gpt2onnx.batch.job import run_batch

    find_model(args.model, args.provider)  # says so where the bundled one is exported
    with Bar("answering") as bar:
        try:
            report = run_batch(
                args.inputs,
                args.output,
                model=args.model,
                name=args.name,
                lines=args.lines,
                errors=args.errors,
                ordered=args.ordered,
                resume=args.resume,
                force=args.force,
                workers=args.workers,
                ray=args.ray,
                max_rows=args.max_rows,
                prefix_cache=args.prefix_cache,
                progress=lambda each: _show(bar, each),
                provider=args.provider,
                provider_options=args.provider_options,
                threads=args.threads,
                startup_cache=args.startup_cache,
                graph=args.graph,
                **given_parameters(args),
            )
        except (KeyboardInterrupt, SystemExit):
            say("gpt2onnx: stopped; what is done is kept: the same command with --resume goes on")
            raise
    say(_summary(report))
    return FAILED if report.failed else 0


def _show(bar: Bar, at: BatchProgress) -> None:
    rate = f"{at.tokens_written / max(at.seconds, 1e-9):,.0f} tokens/s"
    failed = f", {at.failed:,} failed" if at.failed else ""
    bar(at.done, at.total, note=f", {rate}{failed}", before=at.kept)


def _summary(report: BatchReport) -> str:
    new = f"{report.tokens_written:,} tokens in {report.seconds:.1f} s"
    kept = f", {report.kept:,} of them before" if report.kept else ""
    failed = f"; {report.failed:,} failed: {report.errors}" if report.failed else ""
    return (
        f"gpt2onnx: {report.lines:,} lines{kept} in {report.output}; {new}, "
        f"{report.tokens_per_second:,.0f} tokens/s{failed}"
    )
