"""gpt2onnx trace: write on from a prompt, and show what else each token could have been."""

from __future__ import annotations

import argparse
import math

from gpt2onnx.cli.model import add_model, open_model
from gpt2onnx.cli.parameters import add_parameters, given_parameters
from gpt2onnx.cli.parser import Parser
from gpt2onnx.cli.text import add_text, read_prompt
from gpt2onnx.errors import ParameterError

DESCRIPTION = """\
Writes on from a prompt, a line for each step as it happens: the step, the
length of prompt and text in tokens, the token that was chosen, and which of the
most probable ones were not. Probabilities are the model's own, before penalties
and warpers. Parameters are those of `gpt2onnx generate`, for one text."""
EXAMPLES = [
    'gpt2onnx trace "def main():" --max-new-tokens 8',
    'gpt2onnx trace "Once upon" --do-sample --top-p 0.9 --seed 1 --top 3',
]


def parser() -> Parser:
    parser = Parser("trace", "[PROMPT]", DESCRIPTION, EXAMPLES)
    add_text(parser, "PROMPT", "--prompt-file")
    add_model(parser)
    add_parameters(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--top",
        dest="top_logprobs",
        type=int,
        default=5,
        metavar="N",
        help="show the N most probable tokens of each step (default: 5)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    prompt = read_prompt(args)
    model = open_model(args)
    parameters = given_parameters(args)
    if (count := model.params(parameters).num_return_sequences) > 1:
        raise ParameterError(
            f"num_return_sequences={count}: trace follows one sequence; leave it out"
        )
    tokens = model.stream(prompt, top_logprobs=args.top_logprobs, **parameters)
    length = len(model.tokenizer.encode(prompt).ids) or 1  # BOS
    print(_line("step", "length", "token", "probability", "others"))
    for step, token in enumerate(tokens, 1):
        chosen = repr(model.tokenizer.decode([token.id], skip_special_tokens=False))
        others = [
            f"{other.text!r} {_percent(other.logprob)}"
            for other in token.alternatives
            if other.id != token.id
        ]
        shown = (str(step), str(length + step), chosen, _percent(token.logprob))
        print(_line(*shown, "  ".join(others)), flush=True)
    print(f"end: {token.finish_reason}")
    return 0


def _line(step: str, length: str, token: str, probability: str, others: str) -> str:
    return f"{step:>4}  {length:>6}  {token:16}  {probability:>11}  {others}".rstrip()


def _percent(logprob: float) -> str:
    return f"{math.exp(logprob):.2%}"
