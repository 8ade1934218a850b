"""What lookahead decoding's parameters mean together, and beside the others.

Knows names and values; knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers.speculation_params import LOOKAHEAD, check_alone, is_judged_otherwise

if TYPE_CHECKING:
    from gpt2onnx.samplers.params import GenerationParams


class LookaheadSizes(NamedTuple):
    """How much a run reads: at most (window + guess_set) * (ngram - 1) tokens.

    The paper's W, N and G are 15, 5 and 15 for a GPU, to which more tokens are nearly free. These
    defaults are for a CPU, where each one costs (docs/log.md).
    """

    window: int = 1
    ngram: int = 4
    guess_set: int = 1


def lookahead_sizes(params: GenerationParams) -> LookaheadSizes | None:
    """The sizes that the parameters ask for: any that is given turns it on. None where none is."""
    sizes = [getattr(params, name) for name in LOOKAHEAD]
    if sizes == [None] * 3:
        return None
    pairs = zip(sizes, LookaheadSizes(), strict=True)
    return LookaheadSizes(*(default if size is None else size for size, default in pairs))


def unused_by_lookahead(merged: Mapping[str, Any], given: Mapping[str, Any]) -> set[str]:
    """Of a call's parameters, those of lookahead decoding that others leave without effect."""
    replaced = given.get("prompt_lookup_num_tokens")
    return set(LOOKAHEAD) if replaced or is_judged_otherwise(merged) else set()


def check_lookahead(params: GenerationParams) -> None:
    """Raises ParameterError for what can't go with lookahead decoding."""
    if not (name := asked_for(params)):
        return
    check_alone(params, name)
    if params.prompt_lookup_num_tokens:
        raise ParameterError(
            f"{name} and prompt_lookup_num_tokens={params.prompt_lookup_num_tokens} both say where "
            "drafts come from: expected one of them"
        )


def check_no_lookahead(params: GenerationParams) -> None:
    """Raises ParameterError for lookahead decoding beside a draft model."""
    if name := asked_for(params):
        raise ParameterError(
            f"draft and {name} both say where drafts come from: expected one of them"
        )


def asked_for(params: GenerationParams) -> str:
    """What asks for lookahead decoding, as name=value; empty where nothing does."""
    sizes = ((name, getattr(params, name)) for name in LOOKAHEAD)
    return next((f"{name}={size}" for name, size in sizes if size is not None), "")
