"""Reads of one kind, for callers that have no engine: drafts, checks, measurements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2onnx.runtime.decoder.protocol import (
    EVERY,
    AnyRow,
    Decoder,
    Ids,
    Logits,
    Mask,
    Read,
)
from gpt2onnx.samplers.top_logits import TopLogits


def prefill(decoder: Decoder[AnyRow], row: AnyRow, ids: Ids) -> Logits:
    """Append ids [n] to a row: the logits [vocab] after the last of them."""
    (result,) = decoder.read([Read(row, ids, prompt=True)])
    logits: Logits = result.logits[-1]
    return logits


def extend(decoder: Decoder[AnyRow], row: AnyRow, ids: Ids) -> Logits:
    """Append ids [n] to a row: the logits [n, vocab] after each of them."""
    (result,) = decoder.read([Read(row, ids, EVERY)])
    return result.logits


def step(decoder: Decoder[AnyRow], rows: Sequence[AnyRow], ids: Ids) -> Logits:
    """Append one of ids [rows] to each row: the logits [rows, vocab] after them."""
    reads = [Read(row, ids[place : place + 1]) for place, row in enumerate(rows)]
    return _end_to_end([result.logits for result in decoder.read(reads)])


def _end_to_end(rows: Sequence[Logits]) -> Logits:  # [1, vocab] each -> [n, vocab]
    """Rows as one array: that which they all are of, or a copy, which takes as long as a layer."""
    whole: Logits | None = rows[0].base
    if whole is None or whole.shape != (len(rows), rows[0].shape[1]):
        return np.concatenate(rows)
    in_place = (row.ctypes.data == part.ctypes.data for row, part in zip(rows, whole, strict=True))
    return whole if all(in_place) else np.concatenate(rows)


def step_largest(decoder: Decoder[AnyRow], rows: Sequence[AnyRow], ids: Ids) -> TopLogits:
    """The same, with each row's largest logits alone: [rows, top] each.

    Raises ValueError where they don't settle which one is the largest.
    """
    reads = [
        Read(row, ids[place : place + 1], needs=1, temperature=1.0)
        for place, row in enumerate(rows)
    ]
    found = [top for result in decoder.read(reads) for top in result.top_logits]
    if len(found) < len(rows):
        raise ValueError("the largest logits of a row don't settle a choice: read all of them")
    arrays = zip(*(top[:3] for top in found), strict=True)
    ids, logits, logprobs = (np.stack(each) for each in arrays)
    return TopLogits(ids, logits, logprobs)


def branch(
    decoder: Decoder[AnyRow], row: AnyRow, ids: Ids, attention_mask: Mask, wanted: Ids
) -> Logits:
    """Append ids [n], each of which sees [n, n]: the logits [wanted, vocab] after some of them."""
    (result,) = decoder.read([Read(row, ids, wanted, attention_mask=attention_mask)])
    return result.logits
