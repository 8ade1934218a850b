"""gpt2onnx prune: a checkpoint with fewer layers and hidden units."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpt2onnx.cli.options.checkpoint import add_checkpoint, add_revision
from gpt2onnx.cli.options.text import add_texts, read_file
from gpt2onnx.cli.output.table import table
from gpt2onnx.cli.parser import Parser
from gpt2onnx.cli.streams import is_terminal, say
from gpt2onnx.demo import BUNDLED

if TYPE_CHECKING:
    from gpt2onnx.smaller.prune.prune import Choice, Cost, Pruning

DESCRIPTION = """\
Makes a checkpoint without the layers that change their input least, or without
the hidden units of each layer that add least to its output. What is left is
refitted on the text by least squares; nothing is trained. First a table says
what each choice costs in perplexity, on parts of the text that are held out.
Without OUT, that is all; without --layers and --inner, the table has several
choices. OUT is an ordinary checkpoint for transformers and `gpt2onnx export`."""
EXAMPLES = [
    "gpt2onnx prune openai-community/gpt2 --text corpus.txt",
    "gpt2onnx prune openai-community/gpt2 pruned --text corpus.txt --inner 2048",
    "gpt2onnx prune ./my-checkpoint my-pruned --text *.txt --layers 10 --inner 2304",
]
HEADER = ("layers", "inner", "MB", "perplexity", "more")


def parser() -> Parser:
    parser = Parser("prune", "CHECKPOINT [OUT] --text FILE [FILE ...]", DESCRIPTION, EXAMPLES)
    add_checkpoint(parser, "CHECKPOINT", needs_out=False)
    add_texts(parser)
    parser.add_argument("--layers", type=int, metavar="N", help="keep N layers")
    parser.add_argument("--inner", type=int, metavar="N", help="keep N hidden units in each layer")
    add_revision(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    # Raises InstallationError where the export's packages are missing.
    from gpt2onnx.export.writing.progress import bar, silent
    from gpt2onnx.smaller.prune.prune import nothing_chosen, open_pruning

    pruning = open_pruning(
        BUNDLED.get(args.checkpoint, args.checkpoint),
        [read_file(name) for name in args.texts],
        out=args.out,
        revision=args.revision,
        track=bar if is_terminal(sys.stderr) else silent,
    )
    choice = pruning.choice(args.layers, args.inner)
    costs = pruning.costs(_shown(pruning, choice))
    if pruning.note:
        say(f"gpt2onnx: warning: {pruning.note}")
    print(_table(costs), flush=True)
    if args.out is None:
        return 0
    if choice == pruning.whole:
        raise nothing_chosen()
    place = pruning.write(args.out, choice)
    first, last = costs[0], next(cost for cost in costs if cost.choice == choice)
    print(f"{place}: {last.size / 1e6:.1f} of {first.size / 1e6:.1f} MB")
    return 0


def _shown(pruning: Pruning, choice: Choice) -> list[Choice]:
    """What a call asks to know: its choice with each part alone, or what can be chosen."""
    if choice == pruning.whole:
        return pruning.offers()
    whole = pruning.whole
    alone = [choice._replace(inner=whole.inner), choice._replace(layers=whole.layers), choice]
    return [each for each in alone if each != whole]


def _table(costs: Sequence[Cost]) -> str:
    first = costs[0]
    rows = [
        (
            str(cost.choice.layers),
            str(cost.choice.inner),
            f"{cost.size / 1e6:.1f}",
            f"{cost.perplexity:.2f}",
            f"{cost.perplexity / first.perplexity - 1:+.1%}" if cost is not first else "",
        )
        for cost in costs
    ]
    return table([HEADER, *rows])
