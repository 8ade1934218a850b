"""What speculation saves: a draft model, a prompt lookup, lookahead decoding beside plain decoding.

    python -m benchmarks.micro.speculation [--model demo] [--draft demo-draft] [--threads 2]
        [--lookahead W,N,G …]

Each row is one text's time for a new token, prompt's run excluded. "equal" is how many of the
tokens, up to the first other one, are plain decoding's: attention rounds one token otherwise than
several, which can tip a near tie in INT8. Prompts are a plain one and one that repeats itself,
which a lookup feeds on; then two that the bundled draft is good at, tokens 100 to 300 of held-out
modules of Python's library: of the 128 tokens that the bundled model then writes it foresees 83 and
88 %, on the mean of 23 modules 74 %. All are decoded greedily and drawn with a seed. --lookahead
is for models that were exported with --with-attention-bias; it takes the sizes of the window, the
n-grams and the guess set.

The bundled pair is tiny: the draft pays beside the model in fp32 (--model DIR, made by
`gpt2onnx export demo DIR --precision fp32`), whose step costs more than judging several tokens.
"""

from __future__ import annotations

import argparse
import importlib
from functools import partial
from pathlib import Path
from typing import Any

import gpt2onnx
from benchmarks.micro.driver import Report, Timed, equal_tokens, in_turn, timed
from gpt2onnx import Token
from gpt2onnx.samplers.params import LOOKAHEAD

PLAIN = "def read_lines(path):\n"
REPEATING = "".join(
    f"        self.assertEqual(parse('{name}'), ('{name}', None))\n"
    for name in ("alpha", "beta", "gamma", "delta", "alpha", "beta")
)
FORESEEN = ("tempfile", "email.mime.audio")
PROMPTS = {"plain": PLAIN, "repeating": "class ParseTest(unittest.TestCase):\n" + REPEATING}
DRAWN = {"do_sample": True, "seed": 0, "temperature": 0.7}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--draft", default="demo-draft", help="'' for a lookup alone")
    parser.add_argument("--lookahead", metavar="W,N,G", action="append", default=[])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new", type=int, default=128, help="tokens a text")
    args = parser.parse_args()
    model = gpt2onnx.load(args.model, provider="cpu", threads=args.threads)
    ways: dict[str, dict[str, Any]] = {"plain": {}, "lookup": {"prompt_lookup_num_tokens": 10}}
    if args.draft:
        draft = gpt2onnx.load(args.draft, provider="cpu", threads=args.threads)
        ways["draft"] = {"draft": draft}
    for sizes in args.lookahead:
        pairs = zip(LOOKAHEAD, map(int, sizes.split(",")), strict=True)
        ways[f"lookahead {sizes}"] = dict(pairs)
    prompts: dict[str, str | list[int]] = {**PROMPTS}
    prompts |= {name: module_part(model, name) for name in FORESEEN}
    report = Report(
        *("way", "prompt", "drawn", "ms a token", "times as fast", "tokens a step", "accepted"),
        *("equal", "of"),
    )
    for name, prompt in prompts.items():
        for drawn in (False, True):
            given = {**(DRAWN if drawn else {}), "max_new_tokens": args.new, "eos_token_id": ()}
            compare(report, model, ways, name, prompt, given, args.rounds)
    report.end(model=args.model, draft=args.draft, threads=args.threads)


def compare(
    report: Report,
    model: gpt2onnx.Model,
    ways: dict[str, dict[str, Any]],
    name: str,
    prompt: str | list[int],
    given: dict[str, Any],
    rounds: int,
) -> None:
    """A row for each way to write one text."""
    runs = {way: partial(write, model, prompt, {**given, **how}) for way, how in ways.items()}
    results = in_turn(runs, rounds)
    plain = results["plain"]
    for way, result in results.items():
        tokens, stats = result.answer, result.answer[-1].speculation
        report.row(
            *(way, name, "do_sample" in given, result.ms, plain.times(result)),
            *((stats.tokens_per_step, stats.acceptance_rate) if stats else (1.0, None)),
            *(equal_tokens(ids(tokens), ids(plain.answer)), len(tokens)),
        )


def module_part(model: gpt2onnx.Model, name: str) -> list[int]:
    """200 tokens of a module's source."""
    path = Path(str(importlib.import_module(name).__file__))
    return list(model.tokenizer.encode(path.read_text("utf-8")).ids[100:300])


def write(model: gpt2onnx.Model, prompt: str | list[int], given: dict[str, Any]) -> Timed:
    """Seconds for a token after the first one, and all tokens."""
    stream = model.stream(prompt, **given)
    first = next(stream)
    seconds, others = timed(lambda: list(stream))
    return Timed(seconds / len(others), [first, *others])


def ids(tokens: list[Token]) -> list[int]:
    return [token.id for token in tokens]


if __name__ == "__main__":
    main()
