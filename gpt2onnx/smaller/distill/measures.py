"""How near a student is to its teacher on a text held out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2onnx.smaller.distill.corpus import Text

LARGEST = 700  # nats, whose exp a float still holds


@dataclass(frozen=True)
class Measure:
    """Sums over the tokens of a text; nats are of the text, KL(teacher || student).

    `foreseen` are the teacher's greedy tokens that are the student's, too: those that it would
    have accepted from this student as its draft.
    """

    tokens: int
    nats: float
    teacher_nats: float
    kl_nats: float
    foreseen: int

    @property
    def perplexity(self) -> float:
        return _exp(self.nats / self.tokens)

    @property
    def teacher_perplexity(self) -> float:
        return _exp(self.teacher_nats / self.tokens)

    @property
    def kl(self) -> float:
        return self.kl_nats / self.tokens

    @property
    def acceptance(self) -> float:
        return self.foreseen / self.tokens


def _exp(nats: float) -> float:
    """Infinite where a student that has gone wrong is beyond what a number holds."""
    return math.exp(nats) if nats < LARGEST else math.inf


def measure(student: Any, teacher: Any, pieces: Iterable[Text], device: str) -> Measure:
    """Of models of transformers', over pieces [n + 1] of a text, each at the first positions."""
    import torch
    from torch.nn.functional import kl_div, nll_loss

    sums, tokens = np.zeros(4), 0
    student.eval()
    with torch.inference_mode():
        for piece in pieces:
            ids = torch.from_numpy(piece.ids).to(device)
            judged = torch.from_numpy(np.flatnonzero(piece.own[1:])).to(device)
            wanted, found = (_logprobs(model, ids)[judged] for model in (teacher, student))
            text = ids[1:][judged]
            sums += [
                nll_loss(found, text, reduction="sum").item(),
                nll_loss(wanted, text, reduction="sum").item(),
                kl_div(found, wanted, reduction="sum", log_target=True).item(),
                (found.argmax(-1) == wanted.argmax(-1)).sum().item(),
            ]
            tokens += len(text)
    nats, teacher_nats, kl_nats, foreseen = sums
    return Measure(tokens, float(nats), float(teacher_nats), float(kl_nats), int(foreseen))


def _logprobs(model: Any, ids: Any) -> Any:
    """[n + 1] -> [n, vocab]."""
    return model(input_ids=ids[None, :-1], use_cache=False).logits[0].float().log_softmax(-1)
