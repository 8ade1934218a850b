"""gpt2onnx score: the log-probability of each token of a text."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING

from gpt2onnx.cli.options.model import add_model, open_model
from gpt2onnx.cli.options.text import add_text, read_text
from gpt2onnx.cli.output.table import table
from gpt2onnx.cli.parser import Parser
from gpt2onnx.tokenizer.codec import decode

if TYPE_CHECKING:
    from gpt2onnx.runtime.decoding.results import Score
    from gpt2onnx.runtime.model import Model

DESCRIPTION = """\
Shows the log-probability of each token of a text, and of the whole text its
perplexity per token and bits per byte. A newline at the end counts as part of
the text. Logarithms are natural."""
EXAMPLES = [
    'gpt2onnx score "def main():"',
    "gpt2onnx score --file book.txt --model gpt2-int8 | tail -3",
    'echo "for i in range(10):" | gpt2onnx score --json',
]


def parser() -> Parser:
    parser = Parser("score", "[TEXT]", DESCRIPTION, EXAMPLES)
    add_text(parser, "TEXT", "--file")
    parser.add_argument(
        "--bos",
        dest="add_bos",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="put a BOS token before the text, so that its first token is scored, too (default)",
    )
    add_model(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="all of it as one JSON object")
    return parser


def run(args: argparse.Namespace) -> int:
    text = read_text(args)
    model = open_model(args)
    score = model.score(text, add_bos=args.add_bos)
    print(_as_json(model, score) if args.json else _as_text(model, score))
    return 0


def _as_text(model: Model, score: Score) -> str:
    rows = [
        (str(token), repr(_text(model, token)), f"{logprob:.4f}", f"{math.exp(logprob):.3g}")
        for token, logprob in zip(score.token_ids, score.logprobs, strict=True)
    ]
    return "\n".join(
        [
            table([("id", "token", "logprob", "probability"), *rows]),
            f"tokens {len(score.token_ids)}",
            f"perplexity {score.perplexity:.4f}",
            f"bits per byte {score.bits_per_byte:.4f}",
        ]
    )


def _as_json(model: Model, score: Score) -> str:
    tokens = [
        {"id": token, "text": _text(model, token), "logprob": logprob}
        for token, logprob in zip(score.token_ids, score.logprobs, strict=True)
    ]
    totals = {"perplexity": score.perplexity, "bits_per_byte": score.bits_per_byte}
    return json.dumps({"tokens": tokens, **totals}, ensure_ascii=False)


def _text(model: Model, token: int) -> str:
    return decode(model.tokenizer, [token])
