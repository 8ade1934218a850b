"""The logits of one checkpoint twice: by transformers, and by an exported folder in the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel

from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.protocol import Decoder
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.open_model import open_decoder
from gpt2onnx.runtime.ort.session import open_session

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


def load_reference(checkpoint: Path) -> GPT2LMHeadModel:
    """transformers' own model, whose eager attention heeds every option of its config."""
    model = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager")
    return model.float().eval()


def reference_logits(model: GPT2LMHeadModel, ids: Ids) -> Logits:
    """Logits [n, vocab] of ids [n]."""
    with torch.inference_mode():
        logits: Logits = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    return logits


def open_exported(folder: Path) -> Decoder[Any]:
    opened = open_folder(folder)
    return open_decoder(opened, open_session(opened.graph, "cpu", threads=1))


def exported_logits(decoder: Decoder[Any], ids: Ids, prompt: int) -> Logits:
    """Logits [n, vocab] of ids [n]: those of a prompt at once, then a cached step for each."""
    row = decoder.new_row()
    logits = [reads.extend(decoder, row, ids[:prompt])]
    logits += [reads.step(decoder, [row], token[None]) for token in ids[prompt:]]
    decoder.free(row)
    return np.concatenate(logits)


def batched_logits(decoder: Decoder[Any], texts: Sequence[Ids], steps: int) -> list[Logits]:
    """For each of texts [n], the last 1 + `steps` logits: of its prompt, and of steps together."""
    rows = [decoder.new_row() for _ in texts]
    prompts = [
        reads.prefill(decoder, row, text[:-steps]) for row, text in zip(rows, texts, strict=True)
    ]
    later = [
        reads.step(decoder, rows, np.array([text[n] for text in texts])) for n in range(-steps, 0)
    ]
    for row in rows:
        decoder.free(row)
    return list(np.stack([np.stack(prompts), *later], axis=1))


def assert_close(found: Logits, expected: Logits, tolerance: float = 1e-4) -> None:
    """Every logit within `tolerance` of the largest one's magnitude."""
    assert found.shape == expected.shape
    difference, scale = np.abs(found - expected).max(), np.abs(expected).max()
    assert difference <= tolerance * scale, f"{difference:.2g} of {scale:.2g}"


def mean_kl(expected: Logits, found: Logits) -> float:
    """KL(expected || found) in nats, over positions [n, vocab]."""
    log_p = torch.log_softmax(torch.from_numpy(expected).double(), -1)
    log_q = torch.log_softmax(torch.from_numpy(found).double(), -1)
    return float(torch.nn.functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True))
