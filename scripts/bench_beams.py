"""What beam search adds to a step: four beams beside a plain batch of four rows.

    python scripts/bench_beams.py CHECKPOINT [--precision int8] [--context 256] [--threads 2]

The checkpoint is exported into a temporary folder. Both decode greedily after one random prompt of
nearly --context tokens, so that their steps stand around it, and take turns, so that a busy machine
slows both. A step lasts from one choice to the next: model, sampler, and what moves in the cache.
Not every step moves something, so a round counts by its mean; figures are medians of the rounds,
the ratio that of the rounds' ratios. With --agreement the same search runs in fp32, here and in
transformers, and their tokens are compared. The last line is the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import gpt2onnx
from gpt2onnx.runtime.decoding import beams
from gpt2onnx.runtime.decoding import plain as generation
from gpt2onnx.samplers import BeamSearch, GenerationParams

BEAMS, STEPS = 4, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--agreement", action="store_true", help="compare with transformers, too")
    args = parser.parse_args()
    line: dict[str, Any] = {"precision": args.precision, "context": args.context}
    with tempfile.TemporaryDirectory() as folder:
        model = exported(args.checkpoint, Path(folder, "model"), args.precision, args.threads)
        line |= measure(model, args.context, args.rounds)
        print(
            f"{args.precision}, context {args.context}: plain {line['plain_ms']:.2f} ms a step, "
            f"beams {line['beams_ms']:.2f} ms, ratio {line['ratio']:.3f}; "
            f"{line['copied']:.1f} tokens copied a step"
        )
        if args.agreement:
            reference = exported(args.checkpoint, Path(folder, "fp32"), "fp32", args.threads)
            line |= agreement(reference, args.checkpoint)
            print(f"transformers in fp32: {line['agreement']}")
    print(json.dumps(line))


def exported(checkpoint: Path, out: Path, precision: str, threads: int | None) -> gpt2onnx.Model:
    gpt2onnx.export(checkpoint, out, precision=precision, verify=False)
    return gpt2onnx.load(out, provider="cpu", threads=threads, startup_cache=False)


def measure(model: gpt2onnx.Model, context: int, rounds: int) -> dict[str, float]:
    decoder: Any = model.decoder
    prompt = np.random.default_rng(0).integers(0, decoder.vocab_size, context - STEPS // 2)
    copied: list[int] = []
    copy = decoder.copy

    def counted(source: Any, target: Any, start: int) -> None:
        copied.append(source.length - start)
        copy(source, target, start)

    decoder.copy = counted
    times = [(plain_step(decoder, prompt), beam_step(decoder, prompt)) for _ in range(rounds)]
    plain, searched = map(statistics.median, zip(*times, strict=True))
    return {
        "plain_ms": 1e3 * plain,
        "beams_ms": 1e3 * searched,
        # By rounds: whatever else the machine does falls on both sides of one.
        "ratio": statistics.median(beams / batch for batch, beams in times),
        "copied": sum(copied) / (rounds * (STEPS - 1)),
    }


def plain_step(decoder: Any, prompt: np.ndarray) -> float:
    """Seconds from each choice of a batch to the next."""
    params = GenerationParams(max_new_tokens=STEPS)
    decoder.reserve(BEAMS, len(prompt) + STEPS)
    rows = [generation.Continuation(index, prompt, params) for index in range(BEAMS)]
    times = [time.perf_counter() for step in generation.run(decoder, rows) if step.sequence == 0]
    return statistics.mean(np.diff(times))


def beam_step(decoder: Any, prompt: np.ndarray) -> float:
    """Seconds from each choice of a beam to the next; the first one makes the rows."""
    params = GenerationParams(max_new_tokens=STEPS, num_beams=BEAMS)
    times: list[float] = []
    search = BeamSearch(params, prompt, 0, room=STEPS)
    beams.run(decoder, [search], observe=lambda *step: times.append(time.perf_counter()))
    return statistics.mean(np.diff(times)[1:])


def agreement(model: gpt2onnx.Model, checkpoint: Path, new: int = 8) -> dict[str, Any]:
    """Whether tokens and scores are transformers'."""
    import torch
    from transformers import GPT2LMHeadModel

    prompt = np.random.default_rng(1).integers(0, model.decoder.vocab_size, 32)
    ours: Any = model.generate(
        prompt, max_new_tokens=new, num_beams=BEAMS, num_return_sequences=BEAMS
    )
    ids = torch.from_numpy(prompt)[None]
    theirs = (
        GPT2LMHeadModel.from_pretrained(checkpoint)
        .eval()
        .generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            return_dict_in_generate=True,
            output_scores=True,
            pad_token_id=0,
        )
    )
    same = [each.token_ids for each in ours] == theirs.sequences[:, len(prompt) :].tolist()
    scores = np.array([each.score for each in ours])
    difference = float(np.abs(scores - theirs.sequences_scores.numpy()).max())
    verdict = "the same tokens" if same else "other tokens"
    return {
        "same": same,
        "agreement": f"{verdict} in {BEAMS} beams, scores within {difference:.0e}",
    }


if __name__ == "__main__":
    main()
