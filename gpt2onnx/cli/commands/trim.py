"""gpt2onnx trim: a checkpoint with fewer tokens."""

from __future__ import annotations

import argparse
import sys

from gpt2onnx.cli.options.checkpoint import add_checkpoint, add_revision
from gpt2onnx.cli.options.text import add_texts, read_file
from gpt2onnx.cli.parser import Parser
from gpt2onnx.cli.streams import is_terminal, say
from gpt2onnx.demo import BUNDLED

DESCRIPTION = """\
Makes a checkpoint whose vocabulary is what texts like these use: the embedding
and the head lose the other rows, and every step reads less. All 256 bytes, the
special tokens and whatever merges need stay, so any text can still be read. A
text whose tokens were all kept gives the very same ones, with the same logits.
OUT is an ordinary checkpoint for transformers and `gpt2onnx export`;
token_ids.json in it has the new id of each old one."""
EXAMPLES = [
    "gpt2onnx trim openai-community/gpt2 gpt2-16k --text corpus.txt --size 16384",
    "gpt2onnx trim ./my-checkpoint my-trimmed --text *.txt --min-count 3",
]


def parser() -> Parser:
    parser = Parser("trim", "CHECKPOINT OUT --text FILE [FILE ...]", DESCRIPTION, EXAMPLES)
    add_checkpoint(parser, "CHECKPOINT")
    add_texts(parser)
    parser.add_argument(
        "--size",
        type=int,
        metavar="N",
        help="keep N tokens, those that the texts use most; a multiple of 64 is fastest",
    )
    parser.add_argument(
        "--min-count",
        type=int,
        metavar="N",
        help="keep the tokens that the texts use at least N times (default: 1)",
    )
    add_revision(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    # Raises InstallationError where the export's packages are missing.
    from gpt2onnx.smaller.trim.trim import trim

    made = trim(
        BUNDLED.get(args.checkpoint, args.checkpoint),
        args.out,
        [read_file(name) for name in args.texts],
        size=args.size,
        min_count=args.min_count,
        revision=args.revision,
        progress=is_terminal(sys.stderr),
    )
    if made.note:
        say(f"gpt2onnx: warning: {made.note}")
    print(made)
    return 0
