"""Times each penalty, warper and the whole chain on one row of logits, beside transformers' own.

    python -m benchmarks.micro.samplers [--vocab 50257] [--spread 3] [--rounds 100]

Both get the same logits, normal ones of --spread, and the same history of 512 tokens, on one
thread; each finds the other's data in the caches. Agreement compares what the two keep: "same"
with the largest difference of a logit, or the probability of the tokens that only one of them
keeps. Without transformers its columns stay empty, as they are for what transformers doesn't have.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.micro.driver import Report, in_turn, timed
from gpt2onnx.samplers import (
    Candidates,
    GenerationParams,
    Sampler,
    TopLogits,
    categorical,
    generator,
    log_softmax,
    penalties,
    warpers,
)
from gpt2onnx.samplers.candidates import FloatArray, IntArray
from gpt2onnx.samplers.dry import dry
from gpt2onnx.samplers.mirostat import Mirostat
from gpt2onnx.samplers.xtc import xtc

CHAIN: dict[str, Any] = {
    "do_sample": True,
    "repetition_penalty": 1.2,
    "temperature": 0.8,
    "top_k": 50,
    "top_p": 0.9,
    "min_p": 0.05,
}


class Case(NamedTuple):
    """One line of the table: ours and theirs as calls, `show` makes a row [vocab] of our result."""

    name: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any] | None
    show: Callable[[Any], FloatArray] | None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--vocab", type=int, default=50257, help="size of the row")
    parser.add_argument("--spread", type=float, default=3.0, help="deviation of the logits")
    parser.add_argument("--rounds", type=int, default=100, help="calls of each")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    free_a_large_block()
    rng = np.random.default_rng(args.seed)
    logits = rng.normal(-40, args.spread, args.vocab).astype(np.float32)
    history = rng.integers(0, args.vocab, 512)
    peer = Peer(history, logits) if Peer.available() else None
    if peer is None:
        print("transformers or torch isn't installed: its columns are left out")
    report = Report("sampler", "ours ms", "theirs ms", "theirs / ours", "agreement")
    for case in cases(history, logits, peer):
        measure(report, case, logits, args.rounds)
    report.end(vocab=args.vocab, spread=args.spread)


def free_a_large_block() -> None:
    """As a process has done that loaded a model.

    Until then glibc hands every array of a row's size back to the kernel, and fetching its pages
    anew takes as long as the work on them.
    """
    np.ones(2 << 20)


class Peer:
    """transformers' processors on the same row."""

    def __init__(self, history: IntArray, logits: FloatArray) -> None:
        import torch

        torch.set_num_threads(1)
        self.history, self.logits = torch.from_numpy(history)[None], torch.from_numpy(logits)[None]

    @staticmethod
    def available() -> bool:
        try:
            import torch  # noqa: F401
            import transformers  # noqa: F401
        except ImportError:
            return False
        return True

    def call(self, *processors: tuple[str, Any]) -> Callable[[], FloatArray]:
        """A call that applies processors, each a name and its argument, and returns [vocab]."""
        from transformers.generation import logits_process

        chain = logits_process.LogitsProcessorList(
            [getattr(logits_process, name)(argument) for name, argument in processors]
        )
        return lambda: chain(self.history, self.logits)[0].numpy()

    def draw(self, scores: Callable[[], FloatArray]) -> Callable[[], int]:
        import torch

        return lambda: int(torch.multinomial(torch.from_numpy(scores()).softmax(-1), 1))


def cases(history: IntArray, logits: FloatArray, peer: Peer | None) -> Iterator[Case]:
    yield from penalty_cases(history, logits, peer)
    yield from warper_cases(logits, peer)
    yield from newer_cases(logits)
    yield from largest_cases(history, logits)
    yield from draw_cases(history, logits, peer)


def penalty_cases(history: IntArray, logits: FloatArray, peer: Peer | None) -> Iterator[Case]:
    words = [[i, i + 1, i + 2] for i in range(100)]
    for penalty, theirs in [
        (partial(penalties.repetition_penalty, penalty=1.2), "RepetitionPenalty"),
        (partial(penalties.no_repeat_ngram, size=3), "NoRepeatNGram"),
        (partial(penalties.bad_words, words=penalties.by_length(words)), "NoBadWords"),
        (partial(penalties.suppress, ids=np.arange(100)), "SuppressTokens"),
        (
            partial(
                penalties.frequency_presence_penalty, prompt_length=0, frequency=0.5, presence=0.5
            ),
            None,
        ),
    ]:
        argument = {"NoBadWords": words, "SuppressTokens": range(100)}.get(
            theirs, next(iter(penalty.keywords.values()))
        )
        call = peer.call((f"{theirs}LogitsProcessor", argument)) if peer and theirs else None
        yield Case(penalty.func.__name__, partial(penalty, history, logits), call, lambda row: row)
    breakers = np.arange(200)
    for name, tokens in [
        ("dry", history),
        ("dry, in a loop of 20", np.resize(history[:20], len(history))),
        ("dry, one token alone", np.full_like(history, 300)),
    ]:
        yield Case(
            name, partial(dry, tokens, logits, multiplier=0.8, breakers=breakers), None, None
        )


def warper_cases(logits: FloatArray, peer: Peer | None) -> Iterator[Case]:
    candidates = Candidates.of(logits)
    for warper, theirs in [
        (partial(warpers.temperature, t=0.8), "Temperature"),
        (partial(warpers.top_k, k=50), "TopK"),
        (partial(warpers.top_p, p=0.9), "TopP"),
        (partial(warpers.min_p, p=0.05), "MinP"),
        (partial(warpers.typical_p, p=0.9), "Typical"),
        (partial(warpers.epsilon_cutoff, epsilon=5e-4), "Epsilon"),
        (partial(warpers.eta_cutoff, epsilon=5e-4), "Eta"),
    ]:
        argument = next(iter(warper.keywords.values()))
        call = peer.call((f"{theirs}LogitsWarper", argument)) if peer else None
        yield Case(
            warper.func.__name__, partial(warper, candidates), call, partial(dense, len(logits))
        )


def newer_cases(logits: FloatArray) -> Iterator[Case]:
    """What transformers has none of."""
    candidates = Candidates.of(logits)
    for name, warper in {
        "top_n_sigma": partial(warpers.top_n_sigma, n=1.0),
        "tail_free": partial(warpers.tail_free, z=0.95),
        "top_a": partial(warpers.top_a, a=0.2),
        "dynamic_temperature": partial(warpers.dynamic_temperature, low=0.5, high=1.5),
        "xtc": partial(xtc, probability=1.0, rng=generator(0, 0)),
        "mirostat 1": Mirostat(1).warp,
        "mirostat 2": Mirostat(2).warp,
    }.items():
        yield Case(name, partial(warper, candidates), None, None)


def draw_cases(history: IntArray, logits: FloatArray, peer: Peer | None) -> Iterator[Case]:
    sampler = Sampler(GenerationParams(**CHAIN), len(history), 0, generator(0, 0))
    plain = peer.call() if peer else None
    chain = (
        peer.call(
            ("RepetitionPenaltyLogitsProcessor", CHAIN["repetition_penalty"]),
            ("TemperatureLogitsWarper", CHAIN["temperature"]),
            ("TopKLogitsWarper", CHAIN["top_k"]),
            ("TopPLogitsWarper", CHAIN["top_p"]),
            ("MinPLogitsWarper", CHAIN["min_p"]),
        )
        if peer
        else None
    )
    whole = partial(categorical, Candidates.of(logits), generator(0, 0))
    yield Case("draw from all", whole, peer.draw(plain) if peer and plain else None, None)
    yield Case(
        "chain",
        partial(sampler.candidates, history, logits),
        chain,
        partial(dense, len(logits)),
    )
    yield Case(
        "chain and draw",
        partial(sampler, history, logits),
        peer.draw(chain) if peer and chain else None,
        None,
    )


def largest_cases(history: IntArray, logits: FloatArray) -> Iterator[Case]:
    """A choice by all logits, and the same by the 64 largest, as CUDA's graphs give them."""
    ids = np.argsort(-logits, kind="stable")[:64]
    largest = TopLogits(ids, logits[ids], log_softmax(logits)[ids])
    for name, params in (("greedy", {}), ("top-k 50", {"do_sample": True, "temperature": 0.8})):
        sampler, other = (
            Sampler(GenerationParams(**params), len(history), 0, generator(0, 0)) for _ in range(2)
        )
        assert largest.settles(sampler.needs)
        assert (
            sampler.sample(history, logits).token
            == other.sample(history, logits[:0], largest).token
        )
        yield Case(f"{name}, all", partial(sampler.sample, history, logits), None, None)
        yield Case(
            f"{name}, of 64", partial(other.sample, history, logits[:0], largest), None, None
        )


def measure(report: Report, case: Case, logits: FloatArray, rounds: int) -> None:
    """Times a case and reports it."""
    calls = {"ours": case.ours} | ({"theirs": case.theirs} if case.theirs else {})
    results = in_turn({name: partial(timed, call) for name, call in calls.items()}, rounds)
    ours, theirs = results["ours"], results.get("theirs")
    if theirs is None:
        report.row(case.name, ours.ms, None, None, None)
    else:
        same = agreement(case.show(case.ours()), theirs.answer, logits) if case.show else None
        report.row(case.name, ours.ms, theirs.ms, theirs.times(ours), same)


def dense(vocab: int, candidates: Candidates) -> FloatArray:  # [n] -> [vocab]
    row = np.full(vocab, -np.inf, np.float32)
    row[candidates.ids] = candidates.logits
    return row


def agreement(ours: FloatArray, theirs: FloatArray, logits: FloatArray) -> str:
    differing = (ours > -np.inf) != (theirs > -np.inf)
    both = (ours > -np.inf) & (theirs > -np.inf)
    largest = np.abs(ours[both] - theirs[both]).max()
    if not differing.any():
        return f"same {np.count_nonzero(both)} tokens, logits within {largest:.0e}"
    mass = Candidates.of(logits).probabilities()[differing].sum()
    return f"{np.count_nonzero(differing)} tokens differ, of probability {mass:.0e}"


if __name__ == "__main__":
    main()
