"""Runs a model folder's decoder on the stand-in, in a process that has it preloaded.

    run.py MODEL_FOLDER BATCH CONTEXT PROVIDER_OPTIONS   # the last as JSON

Prints where the model's nodes are, and marks in the record where each part begins. The rows of a
batch hold CONTEXT tokens; one row more shows a prompt of as many, when the others' have warmed up.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import numpy as np

import gpt2onnx
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.fused import TOP
from gpt2onnx.runtime.decoder.protocol import Read

STEPS = 5  # ONNX Runtime allocates in the first two, and may capture in the next


def begin(part: str) -> None:
    ctypes.CDLL("libcudart.so.13").cuda_stand_in_record(b"part", part.encode())


def largest(decoder: Any, rows: Any, ids: Any) -> None:
    """A step for the largest logits. Nothing is computed here, so that they never settle a choice:
    a read would go on and ask for all of them."""
    decoder._stepped([Read(row, ids[at : at + 1]) for at, row in enumerate(rows)], TOP)


def main(folder: str, batch: int, context: int, options: dict[str, str]) -> None:
    begin("opening")
    model = gpt2onnx.load(folder, "cuda", provider_options=options)
    print(model.session.choice)
    decoder: Any = model.decoder
    steps: dict[str, Any] = {"step": reads.step}
    if decoder.top:  # as greedy decoding takes it
        steps["greedy step"] = largest
    decoder.reserve(batch + 1, context + STEPS * len(steps))
    prompt = np.arange(context) % decoder.vocab_size
    rows = [decoder.new_row() for _ in range(batch + 1)]
    for row in rows:
        begin("prompt")
        reads.prefill(decoder, row, prompt)
    decoder.free(rows.pop())
    for name, step in steps.items():
        for number in range(STEPS):
            begin(f"{name} {number + 1}")
            step(decoder, rows, np.arange(batch))
    begin("closing")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]))
