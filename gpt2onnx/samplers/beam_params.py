"""What beam search's parameters mean together, and beside the others.

Knows names and values; knows nothing of what a beam does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gpt2onnx.errors import ParameterError

if TYPE_CHECKING:
    from gpt2onnx.samplers.params import GenerationParams

# Without effect unless num_beams is above 1.
BEAMS_ONLY: Final = (
    "length_penalty",
    "early_stopping",
    "num_beam_groups",
    "diversity_penalty",
    "force_words_ids",
)

# Samplers with a state, or dice, of one text's own.
_ONE_TEXTS_OWN: Final = ("mirostat_mode", "xtc_probability")

# What groups and phrases don't go with, as in transformers, and why.
_GROUPS_EXCLUDE: Final = {"do_sample": "groups are searched, not drawn"}
_PHRASES_EXCLUDE: Final = {
    "do_sample": "phrases are searched for, not drawn",
    "num_beam_groups": "each group would have to contain them",
    "max_time": "time may be over before they have come",
}


def unused_by_beams(merged: dict[str, Any]) -> set[str]:
    """Of a call's parameters, those that its number of beams and groups leaves without effect."""
    if (merged.get("num_beams") or 1) == 1:
        return set(BEAMS_ONLY)
    grouped = (merged.get("num_beam_groups") or 1) != 1
    ranking = {"best_of", "return_alternatives"}
    return ranking if grouped else {*ranking, "diversity_penalty"}


def check_beams(params: GenerationParams) -> None:
    """Raises ParameterError for what has no effect, and for what can't go together."""
    if params.num_beams == 1:
        _check_without_beams(params)
        return
    if params.num_return_sequences > params.num_beams:
        raise _both(params, "num_return_sequences", "num_beams", "only as many texts are found")
    if params.overflow == "slide":
        raise _both(params, "overflow", "num_beams", "beams can't go on past the last position")
    for name in _ONE_TEXTS_OWN:
        if getattr(params, name):
            raise _both(params, name, "num_beams", "it follows one text, and beams are several")
    if params.stop_fn:
        raise ParameterError(
            f"stop_fn with num_beams={params.num_beams}: which beam becomes the text is known only "
            "at the end; leave one of them out"
        )
    _check_groups(params)
    if params.forced_phrases:
        _check_phrases(params)


def _check_without_beams(params: GenerationParams) -> None:
    for name in BEAMS_ONLY:
        value = getattr(params, name)
        if value is not None and (name, value) != ("num_beam_groups", 1):
            raise ParameterError(
                f"{name}={value} has no effect without num_beams above 1: set that, or leave "
                f"{name} out"
            )


def _check_groups(params: GenerationParams) -> None:
    if params.num_beams % params.num_beam_groups:
        raise _both(params, "num_beam_groups", "num_beams", "groups must be of one size")
    if params.num_beam_groups == 1 and params.diversity_penalty:
        raise ParameterError(
            f"diversity_penalty={params.diversity_penalty} has no effect without num_beam_groups "
            "above 1: set that, or leave diversity_penalty out"
        )
    if params.num_beam_groups > 1:
        if not params.diversity_penalty:
            raise ParameterError(
                f"num_beam_groups={params.num_beam_groups} without diversity_penalty gives the "
                "same texts in each group: expected a diversity_penalty above 0"
            )
        _exclude(params, "num_beam_groups", _GROUPS_EXCLUDE)


def _check_phrases(params: GenerationParams) -> None:
    _exclude(params, "force_words_ids", _PHRASES_EXCLUDE)
    never = {*params.eos_token_ids, *(params.suppress_tokens or ())}
    for phrases in params.forced_phrases:
        if all(never.intersection(phrase) for phrase in phrases):
            raise ParameterError(
                f"force_words_ids={list(map(list, phrases))} can't come: each holds an end token, "
                "which ends the text, or one of suppress_tokens; take it out of one of them"
            )


def _exclude(params: GenerationParams, name: str, others: dict[str, str]) -> None:
    for other, why in others.items():
        if getattr(params, other) != getattr(type(params), other):  # its default
            raise _both(params, name, other, why)


def _both(params: GenerationParams, one: str, other: str, why: str) -> ParameterError:
    values = ", ".join(f"{name}={getattr(params, name)}" for name in (one, other))
    return ParameterError(f"{values}: {why}; change or leave out one of them")
