"""gpt2onnx generate: continue a prompt."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpt2onnx.cli.options.model import add_beside, add_model, given_beside, open_model
from gpt2onnx.cli.options.parameters import add_parameters, given_parameters
from gpt2onnx.cli.options.text import add_text, read_prompt
from gpt2onnx.cli.output.table import table
from gpt2onnx.cli.parser import Parser
from gpt2onnx.cli.streams import say
from gpt2onnx.errors import Advised, Given, ParameterError
from gpt2onnx.tokenizer.codec import encode

if TYPE_CHECKING:
    from gpt2onnx.runtime.decoding.results import Alternative, Generation, Token
    from gpt2onnx.runtime.model import Model
    from gpt2onnx.samplers import GenerationParams

DESCRIPTION = """\
Continues a prompt, and shows each piece of text as it comes. Options that
aren't given have the values in the model's generation_config.json. An empty
prompt starts from the BOS token. If the prompt comes from a file or from
standard input, one newline at its end is dropped. Ctrl-C ends the text where it
is; with --json alone, unfinished texts are left out."""
EXAMPLES = [
    'gpt2onnx generate "def main():" --max-new-tokens 40',
    'gpt2onnx generate "Once upon" --model gpt2-int8 --do-sample --temperature 0.8',
    'gpt2onnx generate "Dear" --do-sample --num-return-sequences 3 --json',
    "gpt2onnx generate < prompt.txt --stop-strings $'\\n\\n' --stats",
]
BETWEEN_TEXTS = "---"

Rows = list[tuple[str, str]]


def parser() -> Parser:
    parser = Parser("generate", "[PROMPT]", DESCRIPTION, EXAMPLES)
    add_text(parser, "PROMPT", "--prompt-file")
    add_model(parser)
    add_beside(parser)
    add_parameters(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--stream",
        action=argparse.BooleanOptionalAction,
        help="show text as it comes; of several texts with --json alone (default: for one text "
        "that isn't JSON)",
    )
    group.add_argument("--echo", action="store_true", help="show the prompt before each text")
    group.add_argument(
        "--json",
        action="store_true",
        help="one JSON object per line for each finished text: prompt_token_ids, text, token_ids, "
        "logprobs, finish_reason, processed_logprobs (after penalties and warpers) or a beam "
        "search's score. With --stream one for each token: sequence, id, text, logprob, "
        "processed_logprob, finish_reason",
    )
    group.add_argument(
        "--top-logprobs",
        type=int,
        default=0,
        metavar="N",
        help="with --json, the N most probable tokens of each step too: alternatives, the model's "
        "own, and but for beams processed_alternatives, after penalties and warpers, which may "
        "leave fewer",
    )
    group.add_argument(
        "--prompt-logprobs",
        action="store_true",
        help="with --json, prompt_logprobs too: of each of the prompt's tokens but the first",
    )
    group.add_argument(
        "--stats", action="store_true", help="times and speed, on standard error at the end"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    _check(args)
    prompt = read_prompt(args)
    started = time.perf_counter()
    model = open_model(args)
    opened = time.perf_counter() - started
    parameters = given_parameters(args)
    streams = _streams(args, model.params(parameters))
    parameters |= {**given_beside(args), "top_logprobs": args.top_logprobs}
    rows = (_stream if streams else _write_whole)(args, model, prompt, parameters)
    if args.stats:
        about = [
            ("model", f"opened in {opened:.3f} s; start-up cache {model.session.startup}"),
            ("provider", model.session.choice),
        ]
        say(table([*about, *rows]))
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.json and args.echo:
        raise ParameterError(
            *(Given("echo", True), " has no effect with ", Given("json", True), ": leave one out")
        )
    if args.prompt_logprobs and (args.stream or not args.json):
        raise ParameterError(
            *(Given("prompt_logprobs", True), " has no effect without ", Advised("json", True)),
            *(", nor with ", Given("stream", True), ": finished texts' objects show them"),
        )
    if args.top_logprobs and not args.json:
        raise ParameterError(
            *(Given("top_logprobs", args.top_logprobs), " has no effect without "),
            *(Advised("json", True), ": objects show them"),
        )


def _streams(args: argparse.Namespace, params: GenerationParams) -> bool:
    """Whether to show text as it comes. Raises ParameterError where that is asked of several."""
    count = params.num_return_sequences
    if args.stream and count > 1 and not args.json:
        raise ParameterError(
            *(Given("stream", True), f" shows one text, not {count}: leave it out, or add "),
            *(Advised("json", True), ", which says whose each token is"),
        )
    if args.stream is not None:
        return bool(args.stream)
    one = count == 1 and params.num_beams == 1 and params.best_of is None
    return one and not args.json


def _stream(
    args: argparse.Namespace, model: Model, prompt: str, parameters: dict[str, Any]
) -> Rows:
    """Print each token as it comes, its text alone or as JSON, and return statistics."""
    times = [time.perf_counter()]
    tokens = model.stream(prompt, **parameters)
    ended = []
    print(prompt if args.echo else "", end="", flush=True)
    try:
        for token in tokens:
            times.append(time.perf_counter())
            print(_token_as_json(token) if args.json else token.text, end="", flush=True)
            if token.finish_reason:
                ended.append(token)
    finally:
        print(end="" if args.json else "\n")
    ended.sort(key=lambda token: token.sequence)
    first, steps, seconds = times[1] - times[0], len(times) - 2, times[-1] - times[1]
    speed = f", {steps / seconds:.1f} tokens/s after the first" if steps else ""
    length = len(encode(model.tokenizer, prompt)) or 1  # BOS
    return [
        ("prompt", f"{length} tokens, the first new one after {first:.3f} s"),
        ("text", f"{steps + 1} tokens{speed}"),
        ("end", ", ".join(str(each.finish_reason) for each in ended)),
        *_drafts(ended),
    ]


def _write_whole(
    args: argparse.Namespace, model: Model, prompt: str, parameters: dict[str, Any]
) -> Rows:
    """Print one text or several when all are finished, and return their statistics."""
    started = time.perf_counter()
    (result,) = model.generate([prompt], prompt_logprobs=args.prompt_logprobs, **parameters)
    seconds = time.perf_counter() - started
    written = result if isinstance(result, list) else [result]
    if args.json:
        print("\n".join(map(_as_json, written)))
    else:
        start = prompt if args.echo else ""
        print(f"\n{BETWEEN_TEXTS}\n".join(start + each.text for each in written))
    count = sum(len(each.token_ids) for each in written)
    return [
        ("prompt", f"{len(written[0].prompt_token_ids)} tokens"),
        (
            "text",
            f"{count} tokens, {count / seconds:.1f} tokens/s with the prompt's time counted in",
        ),
        ("end", ", ".join(str(each.finish_reason) for each in written)),
        *_drafts(written),
    ]


def _drafts(ended: Sequence[Token | Generation]) -> Rows:
    """How well drafts did, where there were any."""
    stats = [each.speculation for each in ended if each.speculation]
    return [
        (
            "drafts",
            f"{each.accepted} of {each.drafted} tokens kept ({each.acceptance_rate:.1%}), "
            f"{each.tokens_per_step:.2f} tokens a step",
        )
        for each in stats
    ]


def _token_as_json(token: Token) -> str:
    names = ["sequence", "id", "text", "logprob", "processed_logprob", "finish_reason"]
    record = {name: getattr(token, name) for name in names}
    if token.alternatives:
        record["alternatives"] = _named(token.alternatives)
        record["processed_alternatives"] = _named(token.processed_alternatives)
    return json.dumps(record, ensure_ascii=False) + "\n"


def _as_json(written: Generation) -> str:
    names = ["prompt_token_ids", "text", "token_ids", "logprobs", "finish_reason"]
    names.append("processed_logprobs" if written.score is None else "score")
    if written.prompt_logprobs is not None:
        names.append("prompt_logprobs")
    record = {name: getattr(written, name) for name in names}
    for name in ("alternatives", "processed_alternatives"):
        if any(getattr(written, name)):
            record[name] = [_named(each) for each in getattr(written, name)]
    return json.dumps(record, ensure_ascii=False)


def _named(alternatives: Sequence[Alternative]) -> list[dict[str, Any]]:
    return [each._asdict() for each in alternatives]
