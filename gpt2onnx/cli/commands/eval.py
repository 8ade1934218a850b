"""gpt2onnx eval: perplexity of a text, and how far a model is from a reference."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gpt2onnx.cli.options.model import (
    add_graph,
    add_provider,
    add_startup_cache,
    find_model,
    open_model,
)
from gpt2onnx.cli.options.text import read_file
from gpt2onnx.cli.output.bar import Bar
from gpt2onnx.cli.output.table import table
from gpt2onnx.cli.parser import Parser
from gpt2onnx.evaluation import Evaluation, evaluate
from gpt2onnx.reference import Reference, open_reference
from gpt2onnx.runtime.folder.model_folder import open_folder

DESCRIPTION = """\
Measures models on a text: perplexity per token and bits per byte. A text that
is longer than the model's context is read in overlapping windows. With a
reference, it also measures the KL divergence in nats (mean and 99th percentile
over the tokens), how often both have the same most probable token, and the
largest difference of any logit. A reference is a model folder or, with PyTorch,
a checkpoint."""
EXAMPLES = [
    "gpt2onnx eval gpt2-int8 gpt2-int4 --text book.txt --reference gpt2-fp32",
    "gpt2onnx eval gpt2-int8 --text book.txt --reference openai-community/gpt2",
    "cat *.py | gpt2onnx eval demo --text - --reference demo --json",
]


def parser() -> Parser:
    parser = Parser("eval", "DIR [DIR ...] --text FILE", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "folders", nargs="+", metavar="DIR", help="model folder, or demo, the bundled one"
    )
    parser.add_argument(
        "--text",
        metavar="FILE",
        required=True,
        help="the text, a file in UTF-8; - reads standard input",
    )
    parser.add_argument(
        "--reference",
        metavar="DIR",
        help="compare with this: a model folder, or a checkpoint in PyTorch (a folder, a model id "
        "of the hub, or demo, the bundled one)",
    )
    parser.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="tokens that a window moves on by (default: half of the model's positions)",
    )
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", help="measure the text's first N tokens alone"
    )
    parser.add_argument(
        "--bos",
        dest="add_bos",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="put a BOS token before the text, so that its first token counts, too (default)",
    )
    group = parser.add_argument_group("model")
    add_provider(group)
    add_startup_cache(group)
    add_graph(group)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--json", action="store_true", help="one JSON object per model, each on a line"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    text = read_file(args.text)
    for name in args.folders:  # none is found missing after hours
        open_folder(find_model(name, args.provider))
    reference = _open_reference(args)
    results = _evaluations(args, text, reference)
    if args.json:
        for result in results:
            print(json.dumps(result.figures(), ensure_ascii=False), flush=True)
    else:
        print(_as_text(list(results)))
    return 0


def _open_reference(args: argparse.Namespace) -> Reference | None:
    if args.reference is None:
        return None
    return open_reference(args.reference, lambda name: open_model(args, str(name)))


def _evaluations(
    args: argparse.Namespace, text: str, reference: Reference | None
) -> Iterator[Evaluation]:
    """One after another, so that a model and the reference are all that is open at once."""
    for name in args.folders:
        with Bar(name) as bar:
            result = evaluate(
                open_model(args, name),
                text,
                reference=reference,
                stride=args.stride,
                add_bos=args.add_bos,
                max_tokens=args.max_tokens,
                progress=bar,
            )
        yield replace(result, model=name)


def _as_text(results: Sequence[Evaluation]) -> str:
    header = ["model", "precision", "tokens", "perplexity", "bits per byte"]
    first = results[0]
    if first.agreement is None:
        return table([header, *map(_own, results)])
    header += ["KL mean", "KL 99 %", "top-1", "max difference"]
    rows = table([header, *([*_own(result), *_compared(result)] for result in results)])
    return f"{rows}\nreference {first.reference}: perplexity {first.reference_perplexity:.4f}"


def _own(result: Evaluation) -> list[str]:
    return [
        result.model,
        str(result.precision or "-"),
        str(result.tokens),
        f"{result.perplexity:.4f}",
        f"{result.bits_per_byte:.4f}",
    ]


def _compared(result: Evaluation) -> list[str]:
    agreement = result.agreement
    assert agreement is not None  # all are compared, or none
    return [
        f"{agreement.kl_mean:.2e}",
        f"{agreement.kl_p99:.2e}",
        f"{agreement.top1_agreement:.2%}",
        f"{agreement.max_logit_difference:.3g}",
    ]
