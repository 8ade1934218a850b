"""Which warpers a call turns on, in which order, and what doesn't go together.

A warper goes by the parameter that turns it on. Knows nothing of what warpers do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpt2onnx.errors import ParameterError

if TYPE_CHECKING:
    from gpt2onnx.samplers.params import GenerationParams

# The warpers in the order that holds where sampler_order says no other, each with the value that
# turns it off. The middle is transformers' order. top_n_sigma measures the whole vocabulary, so it
# comes first; xtc takes away what the others found best, so it comes last; both as in
# text-generation-webui.
WARPERS: Final[dict[str, float]] = {
    "top_n_sigma": 0,
    "temperature": 1,
    "top_k": 0,
    "top_p": 1,
    "min_p": 0,
    "typical_p": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "tfs_z": 1,
    "top_a": 0,
    "xtc_probability": 0,
}

# What turns a warper on. A range of temperatures is temperature's warper too.
_SWITCHES: Final = {**WARPERS, "dynatemp_range": 0}

# Parameters that say how another one, which is off at 0, works.
_DETAILS: Final[dict[str, tuple[str, ...]]] = {
    "dynatemp_range": ("dynatemp_exponent",),
    "xtc_probability": ("xtc_threshold",),
    "mirostat_mode": ("mirostat_tau", "mirostat_eta"),
    "dry_multiplier": (
        "dry_base",
        "dry_allowed_length",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
    ),
}

# Mirostat truncates in their place; of the warpers it goes with temperature alone.
REPLACED_BY_MIROSTAT: Final = frozenset(
    {*_SWITCHES, *_DETAILS["dynatemp_range"], *_DETAILS["xtc_probability"], "sampler_order"}
    - {"temperature"}
)

_MIROSTAT: Final = "with mirostat_mode, which truncates by itself: leave that out"


def active_warpers(params: GenerationParams) -> tuple[str, ...]:
    """The warpers of a call, in order; none unless it samples. Mirostat isn't among them.

    top_k's default holds unless mirostat is on, or sampler_order has no top_k: neither asks for it.
    """
    if not params.do_sample:
        return ()
    on = {_warper(switch) for switch in _SWITCHES if _is_on(params, switch)}
    order = params.sampler_order or tuple(WARPERS)
    if params.top_k is None and not params.mirostat_mode:
        on.add("top_k")
    return tuple(name for name in order if name in on)


def check_warpers(params: GenerationParams) -> None:
    """Raises ParameterError for what has no effect, and for a warper without a place."""
    for main, details in _DETAILS.items():
        for name in details:
            if getattr(params, name) is not None and not getattr(params, main):
                raise _without_effect(params, name, f"without {main} above 0: set that")
    for switch in _SWITCHES:
        if not _is_on(params, switch):
            continue
        if params.mirostat_mode and switch in REPLACED_BY_MIROSTAT:
            raise _without_effect(params, switch, _MIROSTAT)
        if params.sampler_order and _warper(switch) not in params.sampler_order:
            why = f"while sampler_order has no {_warper(switch)!r}: add it"
            raise _without_effect(params, switch, why)
    if params.mirostat_mode and params.sampler_order:
        raise _without_effect(params, "sampler_order", _MIROSTAT)


def _is_on(params: GenerationParams, switch: str) -> bool:
    return getattr(params, switch) not in (None, _SWITCHES[switch])


def _warper(switch: str) -> str:
    return "temperature" if switch == "dynatemp_range" else switch


def _without_effect(params: GenerationParams, name: str, why: str) -> ParameterError:
    value = getattr(params, name)
    return ParameterError(f"{name}={value} has no effect {why}, or leave {name} out")
