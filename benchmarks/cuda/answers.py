"""Whether a model on a device answers as others do, and as itself in other company."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import gpt2onnx
from benchmarks.cuda.bench import PROMPT, STEPS, Bench
from gpt2onnx.agreement import Agreement
from gpt2onnx.runtime.decoder import reads

# How far logits may be off, as a share of the reference's deviation: several times what rounding
# does, and a fraction of what wrong logits are off by.
FROM_FP32 = {"fp32": 1e-3, "fp16": 0.1, "int8": 0.5, "int4": 1.0}
FROM_ITSELF = {"fp32": 1e-3, "fp16": 0.1, "int8": 0.1, "int4": 0.1}
# How far a beam's score may be off, a log-probability a token.
SCORE = 0.2
UNEQUAL = (1, 37, 64, 9)


def difference(logits: np.ndarray, others: np.ndarray, share: float) -> dict[str, float]:
    """How far two pieces of logits [n, vocab] are apart; `share` of a deviation is allowed."""
    found = Agreement()
    found.add(others, logits)
    return {
        "max": found.max_logit_difference,
        "allowed": share * float(others.std()),
        "top1": found.top1_agreement,
        "kl": found.kl_mean,
    }


def stepped(model: gpt2onnx.Model, ids: np.ndarray, prompt: int) -> np.ndarray:
    """Logits [len(ids) - prompt + 1, vocab] after the prompt and after each token behind it."""
    decoder: Any = model.decoder
    row = decoder.new_row()
    logits = [reads.prefill(decoder, row, ids[:prompt])]
    logits += [reads.step(decoder, [row], ids[at : at + 1])[0] for at in range(prompt, len(ids))]
    decoder.free(row)
    return np.stack(logits)


def agreement(bench: Bench, precision: str, mode: str) -> dict[str, float]:
    ours = stepped(bench.open(precision, mode), bench.ids, PROMPT)
    return difference(ours, expected(bench), FROM_FP32[precision])


@cache
def expected(bench: Bench) -> np.ndarray:
    """What the CPU gives in fp32, which all modes are compared with."""
    return stepped(bench.reference(), bench.ids, PROMPT)


def graphs(bench: Bench, precision: str) -> dict[str, float]:
    """Steps as CUDA graphs against plain ones."""
    captured, plain = (
        stepped(bench.open(precision, mode), bench.ids, PROMPT) for mode in ("graphs", "plain")
    )
    return difference(captured, plain, FROM_ITSELF[precision])


def independence(bench: Bench, precision: str, mode: str) -> dict[str, float]:
    """Rows of unequal lengths together against each alone."""
    model = bench.open(precision, mode)
    decoder: Any = model.decoder
    texts = [bench.ids[-length - STEPS :] for length in UNEQUAL]
    rows = [decoder.new_row() for _ in texts]
    last = [reads.prefill(decoder, row, ids[:-STEPS]) for row, ids in zip(rows, texts, strict=True)]
    newest = [np.array([ids[at] for ids in texts]) for at in range(-STEPS, 0)]
    together = np.stack([last, *(reads.step(decoder, rows, ids) for ids in newest)], axis=1)
    for row in rows:
        decoder.free(row)
    alone = [stepped(model, ids, len(ids) - STEPS) for ids in texts]
    share = FROM_ITSELF[precision]
    return difference(np.concatenate(together), np.concatenate(alone), share)


def beams(bench: Bench, precision: str, mode: str) -> dict[str, Any]:
    """Beam search against the same model's on the CPU."""
    settings = {"max_new_tokens": STEPS, "num_beams": 4, "num_return_sequences": 4}
    models = bench.open(precision, mode), bench.reference(precision)
    ours, theirs = (model.generate(bench.ids[:32], **settings) for model in models)
    scores = [[result.score for result in results] for results in (ours, theirs)]
    return {
        "same": [a.token_ids == b.token_ids for a, b in zip(ours, theirs, strict=True)],
        "max": float(np.abs(np.subtract(*scores)).max()),
        "allowed": SCORE,
    }
