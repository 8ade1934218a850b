"""The strategies beside plain decoding. Each is imported when a call asks for it, which few do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gpt2onnx.runtime.decoder.protocol import Decoder, Ids
from gpt2onnx.runtime.decoding.sequence import Step, TokenSequence
from gpt2onnx.runtime.decoding.task import Task
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.params import LOOKAHEAD


class Strategy(Protocol):
    """A way to write sequences other than a token a step."""

    @property
    def rows_each(self) -> int:
        """The rows that a sequence takes."""

    def tasks(
        self, decoder: Decoder[Any], sequences: Sequence[TokenSequence]
    ) -> Sequence[Task[Step]]:
        """What writes the sequences."""


def strategy_of(
    params: GenerationParams, decoder: Decoder[Any], negative: Ids | None
) -> Strategy | None:
    """The strategy that the parameters ask for, a draft model's aside; None for plain decoding.

    `negative` [n] is the negative prompt, if any. Raises ParameterError.
    """
    guidance = contrastive = lookahead = None
    if negative is not None or params.is_on("guidance_scale"):
        from gpt2onnx.runtime.decoding.guidance import guidance_of

        guidance = guidance_of(params, negative)
    if params.penalty_alpha:
        from gpt2onnx.runtime.decoding.contrastive import contrastive_of

        contrastive = contrastive_of(params, decoder)
    if any(getattr(params, name) is not None for name in LOOKAHEAD):
        from gpt2onnx.runtime.decoding.lookahead.lookahead import lookahead_of

        lookahead = lookahead_of(params, decoder)
    return lookahead or guidance or contrastive
