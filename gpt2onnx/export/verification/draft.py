"""Verifies the draft graph: what its loop writes against steps of the kernels' graph, bit for bit.

Needs the kernels; knows nothing of PyTorch, with which the steps were compared before.
"""

from __future__ import annotations

from itertools import zip_longest

import numpy as np

from gpt2onnx.errors import VerificationError
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.flat import FlatDecoder
from gpt2onnx.runtime.decoder.kv_cache import CacheRow
from gpt2onnx.runtime.decoder.protocol import Ids, Read
from gpt2onnx.runtime.decoder.writer import LoopWriter
from gpt2onnx.runtime.folder.model_folder import DRAFT_GRAPH, KERNELS_GRAPH


def verify_draft(decoder: FlatDecoder, writer: LoopWriter, ids: Ids, count: int) -> None:
    """Compare the `count` most probable tokens behind ids [n], n >= 1, and their log-probabilities.

    Raises VerificationError where the decoder's steps give others than its writer.
    """
    empty, row = decoder.new_row(), decoder.new_row()  # the loop is told which one it is
    held, lacking = np.split(ids, [len(ids) // 2])
    if len(held):
        reads.prefill(decoder, row, held)
    expected = _step_by_step(decoder, row, lacking, count)
    decoder.truncate(row, len(held))
    found = zip(*(each.tolist() for each in writer.go_on(row, lacking, count)), strict=True)
    for place, (wanted, written) in enumerate(zip_longest(expected, found)):
        if written != wanted:
            raise VerificationError(
                f"{DRAFT_GRAPH} doesn't write what {KERNELS_GRAPH} gives step by step: token "
                f"{place} and its log-probability are {written}, expected {wanted}; please report "
                "this with the checkpoint's config.json",
                name=DRAFT_GRAPH,
            )
    for each in (empty, row):
        decoder.free(each)


def _step_by_step(
    decoder: FlatDecoder, row: CacheRow, ids: Ids, count: int
) -> list[tuple[int, float]]:
    """The most probable tokens behind ids [n], read one by one, and their log-probabilities."""
    written = []
    for _ in range(count):
        (result,) = decoder.read([Read(row, ids, needs=1, temperature=1.0)])
        largest = result.top_logits[-1]
        written.append((int(largest.ids[0]), float(largest.logprobs[0])))
        ids = largest.ids[:1]
    return written
