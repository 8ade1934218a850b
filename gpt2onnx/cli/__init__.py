"""The command line: finds the command, runs it, makes a line and a status of what goes wrong.

Each command is a module of this package, with `parser()` and `run(args)`, imported when called:
`gpt2onnx --help` needs neither numpy nor ONNX Runtime. Nothing in here knows models.

Exit status: 0; 1 where the machine or the network failed; 2 for a mistake in the call; 128 and the
signal's number where one ended it: 130 after Ctrl-C, 141 where the reader of the output went away.
What is none of these is a bug, and keeps its traceback.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import gpt2onnx
from gpt2onnx.cli.parser import Parser
from gpt2onnx.errors import Gpt2OnnxError

COMMANDS = {
    "generate": "write on from a prompt",
    "score": "the log-probability of each token of a text",
    "eval": "perplexity of a text, and how far a model is from a reference",
    "trace": "write on, and show what else each token could have been",
    "compare": "CPU or GPU? answers, speed and cost of a model, place by place",
    "export": "make a model folder of a GPT-2 checkpoint",
    "profile": "where a model's time goes, operator by operator",
    "inspect": "what a model folder holds, and whether it is whole",
    "cache": "what is kept to start sooner; clears it",
    "doctor": "what is installed, and what really runs here",
}
# Numpy's BLAS starts a thread a core, which spins for a while: a quarter of the processor time of a
# short run. Only an export multiplies matrices with numpy.
WITH_BLAS = ("export",)
# What a shell says of a process that SIGINT or SIGPIPE ended: 128 and the signal's number.
INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own, and give its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without a character shows its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        print(end="", flush=True)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _discard_output()
        return _complain(f"standard output: {error.strerror}", 1)
    return status


def parser() -> Parser:
    """What stands before the command."""
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
    return importlib.import_module(f"gpt2onnx.cli.{name}")


def _run(arguments: Sequence[str]) -> int:
    name = parser().parse_args(arguments[:1]).command
    if name not in WITH_BLAS:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    called = command(name)
    options = called.parser()
    try:
        status: int = called.run(options.parse_args(arguments[1:]))
    except Gpt2OnnxError as error:
        return _complain(options.in_options(str(error)), error.exit_status)
    except MemoryError as error:
        return _complain(f"this machine has no memory left: {error}", 1)
    return status


def _complain(message: str, status: int) -> int:
    print(f"gpt2onnx: error: {message}", file=sys.stderr)
    return status


def _discard_output() -> None:
    """Keep Python from complaining at its end about what couldn't be written.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
