"""What beam search adds to a step: four beams beside a plain batch of four rows.

    python -m benchmarks.micro.beams MODEL [--context 256] [--rounds 15] [--threads 2]
        [--checkpoint DIR]

Both decode greedily after one random prompt of nearly --context tokens, so that their steps stand
around it. A step lasts from one choice to the next: model, sampler, and what moves in the cache.
Not every step moves something, so a round counts by its mean. With --checkpoint, the one that the
model was made of, in fp32, the same search runs in transformers, and their tokens are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

import gpt2onnx
from benchmarks.micro.driver import Report, Timed, in_turn

BEAMS, STEPS = 4, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--checkpoint", type=Path, help="compare with transformers, too")
    args = parser.parse_args()
    model = gpt2onnx.load(args.model, provider="cpu", threads=args.threads)
    prompt = random_ids(model, args.context - STEPS // 2, seed=0)
    ways = {"plain": lambda: plain_step(model, prompt), "beams": lambda: beam_step(model, prompt)}
    results = in_turn(ways, args.rounds)
    same = agreement(model, args.checkpoint) if args.checkpoint else None
    report = Report("way", "ms a step", "times plain", "as transformers")
    report.row("plain", results["plain"].ms, 1.0, None)
    report.row("beams", results["beams"].ms, results["beams"].times(results["plain"]), same)
    report.end(model=args.model, context=args.context)


def random_ids(model: gpt2onnx.Model, length: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, model.decoder.vocab_size, length).tolist()


def plain_step(model: gpt2onnx.Model, prompt: list[int]) -> Timed:
    """Seconds from each choice of a batch to the next."""
    tokens = model.stream([prompt] * BEAMS, max_new_tokens=STEPS, eos_token_id=())
    times = [time.perf_counter() for token in tokens if token.sequence == 0]
    return Timed(statistics.mean(np.diff(times)))


def beam_step(model: gpt2onnx.Model, prompt: list[int]) -> Timed:
    """Seconds from each choice of a beam to the next; the first one makes the rows."""
    times: list[float] = []
    model.generate(
        prompt,
        max_new_tokens=STEPS,
        num_beams=BEAMS,
        eos_token_id=(),
        observe=lambda *step: times.append(time.perf_counter()),
    )
    return Timed(statistics.mean(np.diff(times)[1:]))


def agreement(model: gpt2onnx.Model, checkpoint: Path, new: int = 8) -> str:
    """Whether tokens and scores are transformers'."""
    import torch
    from transformers import GPT2LMHeadModel

    prompt = random_ids(model, 32, seed=1)
    search: dict[str, Any] = {"max_new_tokens": new, "num_beams": BEAMS}
    search["num_return_sequences"] = BEAMS
    ours: Any = model.generate(prompt, **search)
    ids = torch.tensor([prompt])
    theirs = GPT2LMHeadModel.from_pretrained(checkpoint).eval()
    found = theirs.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        return_dict_in_generate=True,
        output_scores=True,
        pad_token_id=0,
        **search,
    )
    same = [each.token_ids for each in ours] == found.sequences[:, len(prompt) :].tolist()
    scores = np.array([each.score for each in ours])
    difference = float(np.abs(scores - found.sequences_scores.numpy()).max())
    return f"{'same' if same else 'other'} tokens, scores within {difference:.0e}"


if __name__ == "__main__":
    main()
