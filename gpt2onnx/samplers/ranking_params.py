"""What the parameters that rank whole texts mean beside the others.

Knows names and values; how texts are ranked, the runtime knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt2onnx.errors import ParameterError

if TYPE_CHECKING:
    from gpt2onnx.samplers.params import GenerationParams


def check_best_of(params: GenerationParams) -> None:
    """Raises ParameterError for what can't go with best_of."""
    if params.best_of is None:
        return
    if params.num_beams > 1:
        raise ParameterError(
            f"best_of={params.best_of} with num_beams={params.num_beams}: both say which texts are "
            "best; leave one of them out"
        )
    if params.best_of < params.num_return_sequences:
        raise ParameterError(
            f"best_of={params.best_of} is below num_return_sequences="
            f"{params.num_return_sequences}: expected at least as many; lower one or raise the "
            "other"
        )


def check_alternatives(params: GenerationParams) -> None:
    """Raises ParameterError for what can't go with return_alternatives."""
    if not params.return_alternatives:
        return
    if params.num_return_sequences == 1:
        raise ParameterError(
            "return_alternatives=True with num_return_sequences=1 gives the most probable token's "
            "text alone: expected num_return_sequences above 1"
        )
    for name, off in (("num_beams", 1), ("best_of", None)):
        if (value := getattr(params, name)) != off:
            raise ParameterError(
                f"return_alternatives=True with {name}={value}: both say which texts come; leave "
                "one of them out"
            )


def check_stream(params: GenerationParams) -> None:
    """Raises ParameterError for what is settled only when whole texts are there."""
    if params.num_beams > 1:
        raise ParameterError(
            f"num_beams={params.num_beams}: stream shows each token as it comes, and beams settle "
            "on theirs at the end; don't stream, or set num_beams=1"
        )
    if params.best_of is not None:
        raise ParameterError(
            f"best_of={params.best_of}: stream shows each token as it comes, and which texts are "
            "best is known at the end; don't stream, or leave best_of out"
        )
