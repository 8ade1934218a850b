"""gpt2onnx distill: train a smaller student of a checkpoint."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt2onnx.cli.options.checkpoint import add_checkpoint, add_revision
from gpt2onnx.cli.options.text import read_file
from gpt2onnx.cli.output.bar import Bars
from gpt2onnx.cli.parser import Parser
from gpt2onnx.cli.streams import say
from gpt2onnx.demo import BUNDLED
from gpt2onnx.errors import TextWarning

DESCRIPTION = """\
Trains a smaller student of a checkpoint, for itself or as a draft for
speculative decoding. It begins with some of its teacher's layers and learns its
teacher's logits on texts, or on what the teacher writes. OUT is an ordinary
checkpoint for transformers and `gpt2onnx export`. Until it is over, OUT.distill
has the best student so far, and what --resume goes on from. Needs
gpt2onnx[train]; a GPU is used where PyTorch finds one."""
EXAMPLES = [
    "gpt2onnx distill openai-community/gpt2 gpt2-6 --layers 6 --text *.txt",
    "gpt2onnx distill demo my-draft --layers 2 --width 64 --samples 500",
    "gpt2onnx distill demo draft --layers 2 --text *.txt --samples 6000 --greedy",
    "gpt2onnx distill demo my-draft --layers 2 --width 64 --samples 500 --resume",
]


def parser() -> Parser:
    parser = Parser("distill", "TEACHER OUT --layers N", DESCRIPTION, EXAMPLES)
    add_checkpoint(parser, "TEACHER")
    add_revision(parser)
    group = parser.add_argument_group("student")
    group.add_argument("--layers", type=int, metavar="N", required=True, help="how many layers")
    group.add_argument(
        "--width",
        type=int,
        metavar="N",
        help="its n_embd, a multiple of the teacher's head size (default: the teacher's)",
    )
    _add_texts(parser)
    _add_training(parser)
    return parser


def _add_texts(parser: Parser) -> None:
    group = parser.add_argument_group("texts")
    group.add_argument(
        "--text",
        dest="texts",
        metavar="FILE",
        nargs="+",
        default=[],
        help="texts to learn from, files in UTF-8; - reads standard input",
    )
    group.add_argument(
        "--held-out",
        metavar="FILE",
        nargs="+",
        default=[],
        help="texts to measure it on (default: the last 5 %% of the other texts)",
    )
    group.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="texts for the teacher to write: it continues pieces of --text, or writes on its own "
        "if there are none (default then: 2000)",
    )
    group.add_argument(
        "--greedy",
        action="store_true",
        help="let the teacher continue them with its most likely tokens, which suits a draft "
        "(default: sampled)",
    )


def _add_training(parser: Parser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--hours", type=float, metavar="H", help="train for about this long")
    group.add_argument("--steps", type=int, metavar="N", help="number of steps (default: 2000)")
    group.add_argument(
        "--tokens", type=int, metavar="N", default=4096, help="tokens in a step (default: 4096)"
    )
    group.add_argument(
        "--window",
        type=int,
        metavar="N",
        default=256,
        help="tokens in a row; in the last fifth of the steps, as many as the model has positions "
        "(default: 256)",
    )
    group.add_argument(
        "--learning-rate", type=float, metavar="X", default=1e-3, help="its largest (default: 1e-3)"
    )
    group.add_argument(
        "--text-share",
        type=float,
        metavar="X",
        default=0.1,
        help="share of the text's own tokens in the loss, beside the teacher's logits (default: "
        "0.1)",
    )
    group.add_argument("--seed", type=int, metavar="N", default=0, help="(default: 0)")
    group.add_argument(
        "--device", metavar="NAME", default="auto", help="auto (default), cpu or cuda"
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with a run that was stopped; the other options stay the same",
    )
    group.add_argument(
        "--time",
        dest="time_it",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="at the end, time the teacher with the student as its draft (default)",
    )


# Options that are distill's own parameters, by the same names.
OPTIONS = (
    *("layers", "width", "samples", "greedy", "hours", "steps", "tokens", "window"),
    *("learning_rate", "text_share", "seed", "device", "resume", "time_it", "revision"),
)


def run(args: argparse.Namespace) -> int:
    # Raises InstallationError where the export's packages are missing.
    from gpt2onnx.smaller.distill.distill import distill

    texts, held_out = ([read_file(name) for name in some] for some in (args.texts, args.held_out))
    with Bars() as bars, _warnings(), _kept(args.out):
        made = distill(
            BUNDLED.get(args.teacher, args.teacher),
            args.out,
            texts=texts,
            held_out=held_out,
            progress=bars,
            **{name: getattr(args, name) for name in OPTIONS},
        )
    print(made)
    return 0


@contextmanager
def _kept(out: str) -> Iterator[None]:
    """Say what is there when the command is stopped."""
    from gpt2onnx.smaller.distill.run_folder import RunFolder

    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        run = RunFolder(Path(out))
        best = f"the best student so far is {run.best}; " if run.best else ""
        if run.is_there:
            say(f"gpt2onnx: stopped; {best}the same command with --resume goes on")
        raise


@contextmanager
def _warnings() -> Iterator[None]:
    """Print what a warning of ours says in one line, and of a library's nothing."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, TextWarning):
            say(f"gpt2onnx: warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", TextWarning)
        warnings.showwarning = show
        yield
