"""A call's parameters over the model's own defaults.

Knows which defaults have no effect beside what is given; nothing of where they come from, nor of
what a parameter may be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

from gpt2onnx.errors import ParameterError, shown
from gpt2onnx.samplers.beam_params import unused_by_beams
from gpt2onnx.samplers.contrastive import unused_contrast
from gpt2onnx.samplers.generation_config import NEUTRAL, WITHOUT_EFFECT
from gpt2onnx.samplers.lookahead_params import unused_by_lookahead
from gpt2onnx.samplers.order import REPLACED_BY_MIROSTAT
from gpt2onnx.samplers.rules import LENGTH_PAIRS, PARAMETERS, SAMPLING_ONLY
from gpt2onnx.samplers.speculation_params import unused_by_speculation


def merge(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A call's keywords over the model's defaults; what is None is left out.

    Defaults that matter to sampling alone are left out of a call that doesn't sample, those that
    mirostat replaces out of a call that asks for it, those that matter to beams alone out of a call
    without, and a default length where the call gives one of either kind. Raises ParameterError for
    an unknown name.
    """
    for name in (*given, *defaults):
        _require_known(name)
    merged = {**_without_replaced_lengths(defaults, given), **given}
    unused: set[str] = set()
    if not merged.get("do_sample"):
        unused.update(SAMPLING_ONLY)
    unused |= (without_effect := unused_contrast(merged))
    if merged.get("penalty_alpha") and not without_effect:
        unused.discard("top_k")
    if given.get("mirostat_mode"):
        unused.update(REPLACED_BY_MIROSTAT)
    if (merged.get("num_beams") or 1) != 1 or merged.get("return_alternatives"):
        unused.discard("num_return_sequences")
    unused |= unused_by_beams(merged) | unused_by_speculation(merged, given)
    unused |= unused_by_lookahead(merged, given)
    return {
        name: value
        for name, value in merged.items()
        if value is not None and (name in given or name not in unused)
    }


def naming_origin(error: ParameterError, defaults: Set[str]) -> ParameterError:
    """The same error, saying which of the parameters that it names are `defaults`."""
    named = sorted(name for name in defaults if re.search(rf"\b{name}=", str(error)))
    if not named:
        return error
    return ParameterError(
        f"{error} ({', '.join(named)} came from the model's generation_config.json or config.json)"
    )


def _without_replaced_lengths(
    defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    twins = {a: b for pair in LENGTH_PAIRS for a, b in (pair, pair[::-1])}
    return {k: v for k, v in defaults.items() if given.get(twins.get(k, k)) is None}


def _require_known(name: str) -> None:
    if name in PARAMETERS:
        return
    if name in WITHOUT_EFFECT:
        raise ParameterError(f"transformers' {name} has no effect here: leave it out")
    if name in NEUTRAL:
        raise ParameterError(f"transformers' {name} isn't supported: leave it out")
    import difflib  # takes longer to import than most of this package

    closest = difflib.get_close_matches(name, PARAMETERS, n=1)
    advice = f"did you mean {closest[0]}" if closest else f"expected one of {', '.join(PARAMETERS)}"
    raise ParameterError(f"unknown parameter {shown(name)}: {advice}")
