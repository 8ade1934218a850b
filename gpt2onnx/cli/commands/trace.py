"""gpt2onnx trace: continue a prompt, and show the alternatives to each token."""

from __future__ import annotations

import argparse
import math

from gpt2onnx.cli.options.model import add_beside, add_model, given_beside, open_model
from gpt2onnx.cli.options.parameters import add_parameters, given_parameters
from gpt2onnx.cli.options.text import add_text, read_prompt
from gpt2onnx.cli.output.beam_record import BeamRecord
from gpt2onnx.cli.output.whole_file import WholeFile
from gpt2onnx.cli.parser import Parser
from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.page import Node, Option, Run, Step, render
from gpt2onnx.runtime.decoding.results import Generation, Token
from gpt2onnx.runtime.model import Model
from gpt2onnx.tokenizer.codec import decode, encode

DESCRIPTION = """\
Continues a prompt, and prints a line for each step as it happens: the step, the
length of prompt and text in tokens, the chosen token, and the most probable
alternatives. Probabilities are the model's own, before penalties and warpers.
Parameters are those of `gpt2onnx generate`, for one text. A beam search prints
the lines of the best text, at the end.

--html also writes a page, with the entropy along the text; for a beam search it
shows the tree of hypotheses. Ctrl-C ends the run, and the page shows what there
is by then."""
EXAMPLES = [
    'gpt2onnx trace "def main():" --max-new-tokens 8',
    'gpt2onnx trace "Once upon" --do-sample --top-p 0.9 --seed 1 --top 3',
    'gpt2onnx trace "def main():" --num-beams 4 --html beams.html',
]


def parser() -> Parser:
    parser = Parser("trace", "[PROMPT]", DESCRIPTION, EXAMPLES)
    add_text(parser, "PROMPT", "--prompt-file")
    add_model(parser)
    add_beside(parser)
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
    group.add_argument(
        "--html",
        metavar="FILE",
        help="write a page of the run as well: one file, which replaces what is there",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    prompt = read_prompt(args)
    file = WholeFile("html", args.html) if args.html is not None else None
    model = open_model(args)
    params = model.params(given_parameters(args))
    if (count := params.num_return_sequences) > 1:
        raise ParameterError(
            Given("num_return_sequences", count), ": trace follows one sequence; leave it out"
        )
    trace = (_BeamTrace if params.num_beams > 1 else _Trace)(args, model, prompt)
    try:
        trace.run()
    finally:
        if file and trace.steps:
            file.write(render(trace.page()))
    return 0


class _Trace:
    """One text, token by token as it comes."""

    def __init__(self, args: argparse.Namespace, model: Model, prompt: str) -> None:
        self.steps: list[Step] = []
        self._levels: list[list[Node]] = []
        self._end: str | None = None
        self._args, self._model, self._prompt = args, model, prompt
        self._parameters, self._beside = given_parameters(args), given_beside(args)
        self._length = len(encode(model.tokenizer, prompt)) or 1  # BOS

    def run(self) -> None:
        tokens = self._model.stream(
            self._prompt,
            top_logprobs=self._args.top_logprobs,
            entropies=self._args.html is not None,
            **self._beside,
            **self._parameters,
        )
        _print_header()
        for token in tokens:
            self.steps.append(self._step(token))
            self._print(len(self.steps))
        self._end = token.finish_reason
        print(f"end: {self._end}")

    def page(self) -> Run:
        beside = {name: getattr(self._args, name) for name in self._beside}
        given = (f"{name}={value!r}" for name, value in (self._parameters | beside).items())
        about = [
            ("model", self._args.model),
            ("parameters", ", ".join(given) or "the model's own"),
            ("prompt tokens", str(self._length)),
        ]
        return Run(self._prompt, self.steps, self._end, about, self._levels)

    def _step(self, token: Token) -> Step:
        others = [
            Option(other.text, math.exp(other.logprob))
            for other in token.alternatives
            if other.id != token.id
        ]
        bits = None if token.entropy is None else token.entropy / math.log(2)
        return Step(self._text_of(token.id), math.exp(token.logprob), others, bits)

    def _text_of(self, token: int) -> str:
        return decode(self._model.tokenizer, [token])

    def _print(self, number: int) -> None:
        step = self.steps[number - 1]
        others = "  ".join(f"{other.text!r} {other.probability:.2%}" for other in step.others)
        shown = (str(number), str(self._length + number), repr(step.text))
        print(_line(*shown, f"{step.probability:.2%}", others), flush=True)


class _BeamTrace(_Trace):
    """The best text of a beam search, and the tree that it was found in."""

    def run(self) -> None:
        record = BeamRecord(self._text_of, self._args.top_logprobs)
        best: Generation | None = None
        try:
            best = self._search(record)
        finally:
            hypothesis = record.best(best.token_ids if best else None)
            self.steps = record.steps(hypothesis)
            self._levels = record.levels(hypothesis)
        self._end = best.finish_reason
        _print_header()
        for number in range(1, len(self.steps) + 1):
            self._print(number)
        print(f"end: {self._end}")

    def _search(self, record: BeamRecord) -> Generation:
        best: Generation = self._model.generate(
            self._prompt,
            top_logprobs=self._args.top_logprobs,
            observe=record,
            **self._beside,
            **self._parameters,
        )
        return best


def _print_header() -> None:
    print(_line("step", "length", "token", "probability", "others"))


def _line(step: str, length: str, token: str, probability: str, others: str) -> str:
    return f"{step:>4}  {length:>6}  {token:16}  {probability:>11}  {others}".rstrip()
