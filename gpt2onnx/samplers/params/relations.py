"""Checks of several parameters' values against each other.

Whether one has an effect beside the others, `rules` has told; here all of them have, and their
values don't fit. Over a plain mapping of all parameters, each checked by itself before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpt2onnx.errors import Advised, Given, ParameterError

Values = Mapping[str, Any]


def check_relations(values: Values) -> None:
    """Raises ParameterError for the first values that don't fit each other."""
    _check_lengths(values)
    _check_counts(values)
    _check_groups(values)
    _check_candidates(values)
    _check_tokens(values)
    _check_phrases(values)


def as_tuple(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    """Token ids as a tuple, whether none, one or several are given."""
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)


def _check_lengths(values: Values) -> None:
    total = values["max_length"] is not None
    _require_order(values, *(("min_length", "max_length") if total else _NEW))
    for name in ("min_new_tokens", "min_length"):
        if values[name] and not values["eos_token_id"]:
            raise ParameterError(
                *(Given(name, values[name]), " has no effect without ", Given("eos_token_id")),
                *(": give the end token, or leave ", Given(name), " out"),
            )


_NEW = ("min_new_tokens", "max_new_tokens")


def _check_counts(values: Values) -> None:
    """Texts that are given, beside those that are drawn or searched."""
    count = Given("num_return_sequences", values["num_return_sequences"])
    if values["num_beams"] > 1 and values["num_return_sequences"] > values["num_beams"]:
        beams = Given("num_beams", values["num_beams"])
        raise ParameterError(count, " with ", beams, ": only as many texts are found; lower it")
    if values["best_of"] is not None:
        _require_order(values, "num_return_sequences", "best_of")
    if values["return_alternatives"] and values["num_return_sequences"] == 1:
        raise ParameterError(
            *(Given("return_alternatives", True), " with ", count, " gives the most probable "),
            *("token's text alone: expected ", Given("num_return_sequences"), " above 1"),
        )


def _check_groups(values: Values) -> None:
    groups = Given("num_beam_groups", values["num_beam_groups"])
    penalty = Given("diversity_penalty")
    if values["num_beams"] % values["num_beam_groups"]:
        beams = Given("num_beams", values["num_beams"])
        raise ParameterError(groups, " with ", beams, ": groups must be of one size; change one")
    if values["num_beam_groups"] > 1 and not values["diversity_penalty"]:
        raise ParameterError(
            *(groups, " without ", penalty, " gives the same texts in each group: expected a "),
            *(penalty, " above 0"),
        )


def _check_candidates(values: Values) -> None:
    """Contrastive search's."""
    if values["penalty_alpha"] and values["top_k"] in (0, 1):
        raise ParameterError(
            *(Given("penalty_alpha", values["penalty_alpha"]), " with "),
            *(Given("top_k", values["top_k"]), ": expected the number of candidates, at least 2; "),
            *("set ", Advised("top_k", 4), " for instance"),
        )


def _check_tokens(values: Values) -> None:
    for eos in as_tuple(values["eos_token_id"]):
        if (eos,) in (values["bad_words_ids"] or ()):
            raise ParameterError(
                *(Given("bad_words_ids"), f" holds [{eos}], the end token, which transformers "),
                "passes over: expected other words; to forbid the end token, put it in ",
                Advised("suppress_tokens"),
            )
    suppressed = set(values["suppress_tokens"] or ())
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        forced = as_tuple(values[name])
        if forced and suppressed.issuperset(forced):
            raise ParameterError(
                *(Given(name, values[name]), " is forbidden by ", Given("suppress_tokens")),
                ": take it out of one of the two",
            )


def _check_phrases(values: Values) -> None:
    never = {*as_tuple(values["eos_token_id"]), *(values["suppress_tokens"] or ())}
    for phrases in values["force_words_ids"] or ():
        if all(never.intersection(phrase) for phrase in phrases):
            raise ParameterError(
                *(
                    Given("force_words_ids", list(map(list, phrases))),
                    " can't come: each holds an ",
                ),
                *("end token, which ends the text, or one of ", Given("suppress_tokens")),
                "; take it out of one of them",
            )


def _require_order(values: Values, low: str, high: str) -> None:
    at_least, at_most = values[low], values[high]
    if at_least is not None and at_least > at_most:
        raise ParameterError(
            *(Given(low, at_least), " is above ", Given(high, at_most)),
            ": lower one or raise the other",
        )
