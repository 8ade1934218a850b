"""The command line: finds the command, runs it, prints errors on one line, sets the exit status.

Each command is a module of this package, with `parser()` and `run(args)`, imported when called:
`gpt2onnx --help` needs neither numpy nor ONNX Runtime. Nothing in here knows models. Everything is
imported where it is used, so that an interrupt finds `main` running as early as can be.

Exit status: 0; 1 where the machine or the network failed; 2 for a mistake in the call; 128 and the
signal's number where one ended it: 130 after Ctrl-C, 141 where the reader of the output went away.
What is none of these is a bug, and keeps its traceback.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from typing import Any

    from gpt2onnx.cli.parser import Parser


COMMANDS = {
    "generate": "continue a prompt",
    "batch": "answer files of prompts with several workers; resumable",
    "serve": "serve models over HTTP, to OpenAI's clients",
    "score": "show the log-probability of each token of a text",
    "eval": "measure perplexity, and agreement with a reference",
    "trace": "continue a prompt, and show the alternatives to each token",
    "compare": "compare a model's answers, speed and cost on CPU and GPU",
    "export": "turn a GPT-2 checkpoint into a model folder",
    "trim": "make a smaller checkpoint that keeps the tokens that texts use",
    "prune": "make a smaller checkpoint with fewer layers or hidden units",
    "distill": "train a smaller student of a checkpoint, for itself or as a draft",
    "profile": "show where a model's time goes, operator by operator",
    "inspect": "show what a model folder holds, and check its files",
    "cache": "list or clear what is kept for faster starts",
    "doctor": "check what is installed, and which providers run here",
}
# Numpy's BLAS starts a thread a core, which spins for a while: a quarter of the processor time of a
# short run. Only these multiply matrices with numpy.
WITH_BLAS = ("export", "prune", "distill")
# So many objects may come before Python looks for garbage among them.
UNCOLLECTED = 100_000
# What a shell says of a process that SIGINT or SIGPIPE ended: 128 and the signal's number.
INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own, and give its exit status."""
    try:
        if arguments is None:
            _take_the_process()
        return _main(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


def _take_the_process() -> None:
    """Signals and standard streams are ours: this process runs nothing but this call."""
    import gc
    import os
    import signal

    # What importing makes stays: looking for garbage in it, every 700 objects, takes 10 ms.
    if not set(sys.argv[1:2]) & set(WITH_BLAS):  # whose garbage may hold large matrices
        gc.set_threshold(UNCOLLECTED)

    # Until a command runs there is nothing to close: it ends the process, without a traceback.
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.getpid() == 1:  # a container's first process, for which SIG_DFL is SIG_IGN
        from gpt2onnx.cli.signals import ENDING, end_at_once

        for each in ENDING:
            if signal.getsignal(each) == signal.SIG_DFL:
                signal.signal(each, end_at_once)
    from gpt2onnx.cli.streams import open_closed

    open_closed()


def _main(arguments: Sequence[str]) -> int:
    from gpt2onnx.cli import streams
    from gpt2onnx.cli.failures import described

    streams.show_all_characters()
    options = main_parser()
    try:
        try:
            called = command(_name(options, arguments))
            options = called.parser()
            given = options.parse_args(arguments[1:])
        except SystemExit as end:  # argparse has said what there is to say
            status = int(end.code or 0)
        else:
            status = _run(called.run, given)
        streams.flush()
    except BrokenPipeError:
        streams.discard_output()
        return BROKEN_PIPE
    except Exception as error:
        told = described(error, options.option)
        if told is None:
            raise
        message, status = told
        streams.settle_output()
        streams.say(f"gpt2onnx: error: {message}")
    return status


def _name(options: Parser, arguments: Sequence[str]) -> str:
    """The command's name, and its threads."""
    import os

    if any("\0" in each for each in arguments):  # none that a system would pass on
        options.error("an argument holds a NUL character, which no file's name and no option has")
    name: str = options.parse_args(arguments[:1]).command
    if name not in WITH_BLAS:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return name


def _run(run: Callable[[argparse.Namespace], int], given: argparse.Namespace) -> int:
    """A command's status. Where a signal ended it, whatever came of that is no error."""
    from gpt2onnx.cli.signals import ending_signals, exit_without_destructors

    with ending_signals() as ending:
        try:
            return run(given)
        except BaseException:
            if not ending.number:
                raise
            exit_without_destructors(128 + ending.number)
            return 128 + ending.number


def main_parser() -> Parser:
    """What stands before the command."""
    import gpt2onnx
    from gpt2onnx.cli.parser import Parser

    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items())
    parser = Parser(
        "",
        "COMMAND",
        "GPT-2 checkpoints as ONNX models, run by numpy and ONNX Runtime alone.\n\n"
        f"commands:\n{listed}\n\n`gpt2onnx COMMAND --help` has a command's options and examples.",
        ['gpt2onnx generate "def main():"', "gpt2onnx export openai-community/gpt2 gpt2-int8"],
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the above")
    parser.add_argument("--version", action="version", version=f"gpt2onnx {gpt2onnx.__version__}")
    return parser


def command(name: str) -> Any:
    """The module of a command."""
    import importlib

    return importlib.import_module(f"gpt2onnx.cli.commands.{name}")
