"""What speculation saves: a draft model, a prompt lookup, lookahead decoding beside plain decoding.

    python scripts/bench_speculation.py [--model demo] [--draft demo-draft] [--threads 2]
        [--lookahead W,N,G …]

Each row is one text's time for a new token, prompt's run excluded: the median of --rounds, in which
all ways take turns, so that a busy machine slows all. "equal" is how many of the tokens, up to the
first other one, are plain decoding's: attention rounds one token otherwise than several, which can
tip a near tie in INT8. Prompts are a plain one and one that repeats itself, which a lookup feeds
on; then two that the bundled draft is good at, tokens 100 to 300 of held-out modules of Python's
library: among twenty it has the bundled model's next greedy token in 59 % of the places, in these
two in 86 and 78 %. All are decoded greedily and drawn with a seed. --lookahead is for models that
were exported with --with-attention-bias; it takes the sizes of the window, the n-grams and the
guess set. The last line is the same as JSON.

The bundled pair is tiny: the draft pays beside the model in fp32 (--model DIR, made by
`gpt2onnx export demo DIR --precision fp32`), whose step costs more than judging several tokens.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from pathlib import Path
from typing import Any

import gpt2onnx
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
    rows = [
        row
        for prompt in prompts.items()
        for drawn in (False, True)
        for row in compare(model, ways, prompt, drawn, args)
    ]
    print(json.dumps(rows))


def compare(
    model: gpt2onnx.Model,
    ways: dict[str, dict[str, Any]],
    named_prompt: tuple[str, str | list[int]],
    drawn: bool,
    args: argparse.Namespace,
) -> list[dict[str, Any]]:
    """A row for each way to write one text."""
    name, prompt = named_prompt
    given: dict[str, Any] = {**(DRAWN if drawn else {}), "max_new_tokens": args.new}
    given["eos_token_id"] = ()
    times: dict[str, list[float]] = {way: [] for way in ways}
    texts: dict[str, list[Token]] = {}
    for _ in range(args.rounds):
        for way, how in ways.items():
            seconds, texts[way] = write(model, prompt, {**given, **how})
            times[way].append(1e3 * seconds / (len(texts[way]) - 1))
    base = statistics.median(times["plain"])
    rows = []
    for way, tokens in texts.items():
        median, stats = statistics.median(times[way]), tokens[-1].speculation
        row = {
            "prompt": name,
            "drawn": drawn,
            "way": way,
            "ms_per_token": round(median, 3),
            "speedup": round(base / median, 2),
            "equal": equal(tokens, texts["plain"]),
            "of": len(tokens),
            "acceptance_rate": round(stats.acceptance_rate, 3) if stats else None,
            "tokens_per_step": round(stats.tokens_per_step, 2) if stats else 1.0,
        }
        print(
            f"{name:<16} {'drawn' if drawn else 'greedy':<7} {way:<17} {median:7.3f} ms a token, "
            f"{row['speedup']:.2f} x, {row['tokens_per_step']:.2f} tokens a step, "
            f"equal {row['equal']}/{row['of']}"
        )
        rows.append(row)
    return rows


def module_part(model: gpt2onnx.Model, name: str) -> list[int]:
    """200 tokens of a module's source."""
    path = Path(str(importlib.import_module(name).__file__))
    return list(model.tokenizer.encode(path.read_text("utf-8")).ids[100:300])


def write(
    model: gpt2onnx.Model, prompt: str | list[int], given: dict[str, Any]
) -> tuple[float, list[Token]]:
    """The seconds from the first token to the last, and all tokens."""
    stream = model.stream(prompt, **given)
    tokens = [next(stream)]
    started = time.perf_counter()
    tokens += stream
    return time.perf_counter() - started, tokens


def equal(tokens: list[Token], plain: list[Token]) -> int:
    """How many tokens both begin with alike."""
    pairs = zip(tokens, plain, strict=True)
    return next((n for n, (a, b) in enumerate(pairs) if a.id != b.id), len(tokens))


if __name__ == "__main__":
    main()
