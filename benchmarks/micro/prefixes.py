"""What a prefix cache saves: requests whose prompts begin alike, to an engine with it and without.

    python -m benchmarks.micro.prefixes MODEL [--shared 900] [--own 8] [--new 8] [--requests 16]
        [--rows 16] [--threads 2] [--rounds 3]

Each prompt is `--shared` tokens that all have and `--own` that no other has. "all" has all requests
there at once: its time is a request's share. "one" is a request alone, to its first token. The
first round fills the cache and doesn't count. "equal" is how many texts are those without it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import count

import numpy as np

import gpt2onnx
from benchmarks.micro.driver import Report, Timed, in_turn, timed

CACHE = "1G"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--shared", type=int, default=900)
    parser.add_argument("--own", type=int, default=8)
    parser.add_argument("--new", type=int, default=8, help="tokens a text")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    model = gpt2onnx.load(args.model, provider="cpu", threads=args.threads)
    report = Report("way", "requests", "ms", "requests/s", "times", "equal")
    with (
        gpt2onnx.Engine(model, max_rows=args.rows) as plain,
        gpt2onnx.Engine(model, max_rows=args.rows, prefix_cache=CACHE) as caching,
    ):
        for name, requests, new in (("all", args.requests, args.new), ("one", 1, 1)):
            ways = {
                "without": asking(plain, requests, new, args),
                "with": asking(caching, requests, new, args),
            }
            results = in_turn(ways, args.rounds)
            without = results["without"]
            for way, each in results.items():
                pairs = zip(each.answer, without.answer, strict=True)
                report.row(
                    *(f"{name}, {way}", requests, each.ms / requests, 1e3 * requests / each.ms),
                    *(without.times(each), sum(mine == theirs for mine, theirs in pairs)),
                )
    report.end(shared=args.shared, own=args.own, new=args.new)


def asking(
    engine: gpt2onnx.Engine, requests: int, new: int, args: argparse.Namespace
) -> Callable[[], Timed]:
    """A round: as many requests at once, with prompts that no round before had."""
    vocab_size, rounds = engine.model.decoder.vocab_size, count()
    shared = np.random.default_rng(0).integers(0, vocab_size, args.shared).tolist()

    def ask() -> Timed:
        rng = np.random.default_rng([1, requests, next(rounds)])
        prompts = [shared + rng.integers(0, vocab_size, args.own).tolist() for _ in range(requests)]

        def answered() -> list[list[int]]:
            handles = [engine.submit(p, max_new_tokens=new, eos_token_id=[]) for p in prompts]
            return [handle.result().token_ids for handle in handles]

        return timed(answered)

    return ask


if __name__ == "__main__":
    main()
