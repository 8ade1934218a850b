"""What drafted tokens cost that are all judged in vain.

    python scripts/bench_rejection.py DIR [--draft DIR] [--threads 2]

A drafter that knows the text guesses wrong on purpose: every round judges n tokens and keeps none.
Its overhead a rejected token is (a round - a plain step) / n, in plain steps: 1 would be the
price of judging each by itself. With --draft that model drafts first, for its running time, and the
last column has it. Plain steps and rounds take turns; times are medians, the prompt's run excluded.
"equal" is how many of the tokens, up to the first other one, are plain decoding's. The last line is
the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import gpt2onnx
from gpt2onnx.runtime.decoding.drafters import DraftModel
from gpt2onnx.runtime.decoding.plain import Continuation, Step, run
from gpt2onnx.runtime.decoding.speculation import Speculation

DRAFTED = (1, 2, 4, 8, 16)


class Wrong:
    """Guesses `count` tokens, none of which comes; with a draft model, after asking it for them.

    It guesses more than Speculation asks for, which soon would be one token.
    """

    def __init__(self, tokens: list[int], count: int, vocab: int, draft: Any = None) -> None:
        self._wrong = (np.array(tokens) + 1) % vocab
        self._count = count
        self._draft = DraftModel(draft) if draft else None

    def draft(self, sequence: Continuation, count: int) -> np.ndarray:
        if self._draft:
            self._draft.draft(sequence, self._count)
        new = len(sequence.history) - len(sequence.prompt)
        return self._wrong[new : new + self._count]

    def release(self, sequence: Continuation) -> None:
        if self._draft:
            self._draft.release(sequence)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--draft", help="a model of the same tokenizer, whose running time counts")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--context", type=int, default=256, help="tokens of the prompt")
    parser.add_argument("--steps", type=int, default=32)
    args = parser.parse_args()
    model = gpt2onnx.load(args.model, provider="cpu", threads=args.threads)
    draft = gpt2onnx.load(args.draft, provider="cpu", threads=args.threads) if args.draft else None
    rows = [measure(model, drafted, draft, args) for drafted in DRAFTED]
    print(json.dumps(rows))


def measure(
    model: gpt2onnx.Model, drafted: int, draft: gpt2onnx.Model | None, args: argparse.Namespace
) -> dict[str, Any]:
    """A row: plain steps, and rounds of `drafted` tokens in vain, in turn."""
    vocab = model.decoder.vocab_size
    tokens = [step.token_id for step in run(model.decoder, [sequence(model, args, drafted)])]
    drafters = {"round": Wrong(tokens, drafted, vocab)}
    if draft:
        drafters["with_draft"] = Wrong(tokens, drafted, vocab, draft.decoder)
    ways: dict[str, Any] = {way: Speculation(each, drafted).run for way, each in drafters.items()}
    written = {
        way: how(model.decoder, [sequence(model, args, drafted)])
        for way, how in {"plain": run, **ways}.items()
    }
    times, ids = in_turn(written, args.steps)
    ms = {way: 1e3 * statistics.median(each) for way, each in times.items()}
    row: dict[str, Any] = {"drafted": drafted, **{way: round(each, 3) for way, each in ms.items()}}
    for way in ways:
        row[f"{way}_overhead"] = round((ms[way] - ms["plain"]) / drafted / ms["plain"], 3)
    row["equal"] = equal(ids["round"], ids["plain"])
    row["of"] = len(ids["plain"])
    print(", ".join(f"{name} {value}" for name, value in row.items()))
    return row


def in_turn(
    written: dict[str, Iterator[Step]], steps: int
) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """The seconds of `steps` steps of each, one step of each at a time, and all tokens."""
    ids = {way: [next(each).token_id] for way, each in written.items()}
    times: dict[str, list[float]] = {way: [] for way in written}
    for _ in range(steps):
        for way, each in written.items():
            started = time.perf_counter()
            ids[way].append(next(each).token_id)
            times[way].append(time.perf_counter() - started)
    return times, ids


def sequence(model: gpt2onnx.Model, args: argparse.Namespace, drafted: int) -> Continuation:
    """The same one each time: a random prompt, and room for drafts behind the last step."""
    prompt = np.random.default_rng(0).integers(0, model.decoder.vocab_size, args.context)
    new = args.steps + drafted + 2
    return Continuation(0, prompt, model.params({"max_new_tokens": new, "eos_token_id": ()}))


def equal(ids: list[int], plain: list[int]) -> int:
    """How many tokens both begin with alike."""
    pairs = zip(ids, plain, strict=True)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), len(ids))


if __name__ == "__main__":
    main()
