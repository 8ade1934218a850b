"""Which warpers run, in which order, what goes together, and what is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import Candidates, GenerationParams, Sampler, generator, warper_steps
from gpt2onnx.samplers.params import PARAMETERS, WARPERS
from gpt2onnx.samplers.warpers import dynamic_temperature
from tests.raising import raises

# A value for each at which it does something.
ON: dict[str, float] = {
    "top_n_sigma": 3.0,
    "temperature": 0.8,
    "smoothing_factor": 0.3,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.05,
    "typical_p": 0.9,
    "epsilon_cutoff": 1e-3,
    "eta_cutoff": 1e-3,
    "tfs_z": 0.95,
    "top_a": 0.1,
    "xtc_probability": 0.5,
}
OTHERWISE_CALLED = {
    "tfs_z": "tail_free",
    "xtc_probability": "xtc",
    "smoothing_factor": "quadratic",
}
REVERSED = tuple(reversed(ON))
CANDIDATES = Candidates.of(np.array([3, 1, 2, -1], np.float32))


def active(**given: Any) -> tuple[str, ...]:
    return GenerationParams(do_sample=True, **given).active_warpers


def test_without_an_order() -> None:
    assert active(**ON) == tuple(ON) == tuple(WARPERS)


def test_sampler_order_is_the_order() -> None:
    assert active(**ON, sampler_order=REVERSED) == REVERSED
    assert active(**ON, sampler_order=list(REVERSED)) == REVERSED


def test_sampler_order_may_name_what_is_off() -> None:
    assert active(top_p=0.5, temperature=1.0, sampler_order=REVERSED) == ("top_p", "top_k")


def test_all_can_be_off() -> None:
    assert active(**{name: PARAMETERS[name].off[0] for name in WARPERS}) == ()


def test_top_k_has_a_default() -> None:
    assert active() == ("top_k",)
    assert active(temperature=0.5, sampler_order=["top_k", "temperature"]) == (
        "top_k",
        "temperature",
    )


@pytest.mark.parametrize("given", [{"sampler_order": ["temperature"]}, {"mirostat_mode": 1}])
def test_top_ks_default_isnt_there_where_nobody_asks_for_it(given: dict[str, Any]) -> None:
    assert active(temperature=0.5, **given) == ("temperature",)


def test_a_range_of_temperatures_is_temperatures_warper() -> None:
    assert active(dynatemp_range=0.5, top_k=0) == ("temperature",)
    (step,) = warper_steps(GenerationParams(do_sample=True, dynatemp_range=0.5, top_k=0))
    warped = dynamic_temperature(CANDIDATES, low=0.5, high=1.5)
    np.testing.assert_array_equal(step(CANDIDATES).logits, warped.logits)


def test_a_range_of_temperatures_ends_at_zero() -> None:
    given = {"temperature": 0.5, "dynatemp_range": 0.75, "dynatemp_exponent": 2, "top_k": 0}
    (step,) = warper_steps(GenerationParams(do_sample=True, **given))
    warped = dynamic_temperature(CANDIDATES, low=0.0, high=1.25, exponent=2.0)
    np.testing.assert_array_equal(step(CANDIDATES).logits, warped.logits)


def test_greedy_decoding_has_none() -> None:
    assert GenerationParams().active_warpers == ()


def test_every_warper_is_composed_in_its_place() -> None:
    steps = warper_steps(
        GenerationParams(do_sample=True, **ON, sampler_order=REVERSED), generator(0, 0)
    )
    names = [step.func.__name__ for step in steps if isinstance(step, partial)]
    assert names == [OTHERWISE_CALLED.get(n, n) for n in REVERSED]


def test_the_order_matters() -> None:
    """top_p of 0.6 0.3 0.1 leaves two; of the probabilities at temperature 4 it needs all three."""
    logits = np.log(np.array([0.6, 0.3, 0.1], np.float32))
    for order, kept in [(["temperature", "top_p"], 3), (["top_p", "temperature"], 2)]:
        params = GenerationParams(do_sample=True, temperature=4.0, top_p=0.8, sampler_order=order)
        sampler = Sampler(params, 1, 0, generator(0, 0))
        assert len(sampler.candidates(np.array([0]), logits).ids) == kept


MIROSTAT = {"mirostat_mode": 2}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"dynatemp_exponent": 2.0}, ("dynatemp_exponent", "dynatemp_range")),
        ({"smoothing_curve": 2.0}, ("smoothing_curve", "smoothing_factor")),
        ({"xtc_threshold": 0.1}, ("xtc_threshold", "xtc_probability")),
        ({"xtc_threshold": 0.1, "xtc_probability": 0.0}, ("xtc_threshold", "xtc_probability")),
        ({"mirostat_tau": 5.0}, ("mirostat_tau", "mirostat_mode")),
        ({"mirostat_eta": 0.1, "mirostat_mode": 0}, ("mirostat_eta", "mirostat_mode")),
        ({"dry_base": 2.0}, ("dry_base", "dry_multiplier")),
        ({"dry_allowed_length": 2}, ("dry_allowed_length", "dry_multiplier")),
        ({"dry_penalty_last_n": -1}, ("dry_penalty_last_n", "dry_multiplier")),
        ({"dry_sequence_breakers": []}, ("dry_sequence_breakers", "dry_multiplier")),
        *(
            ({**MIROSTAT, name: value}, ("mirostat_mode", name))
            for name, value in ON.items()
            if name != "temperature"
        ),
        ({**MIROSTAT, "sampler_order": ["temperature"]}, ("mirostat_mode", "sampler_order")),
        ({"dynatemp_range": 0.5, "sampler_order": ["top_p"]}, ("dynatemp_range", "sampler_order")),
        ({"top_k": 50, "sampler_order": ["top_p"]}, ("top_k", "sampler_order")),
    ],
)
def test_refuses_what_would_have_no_effect(given: dict[str, Any], named: tuple[str, ...]) -> None:
    with raises(ParameterError, named=named):
        GenerationParams(do_sample=True, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {**MIROSTAT, "dynatemp_range": 0.5},
            "mirostat_mode=2 with dynatemp_range=0.5: mirostat truncates by",
        ),
        (
            {"top_p": 0.9, "min_p": 0.1, "sampler_order": ["top_p", "top_k"]},
            "min_p=0.1 has no effect while sampler_order has no 'min_p': add it, or leave min_p",
        ),
    ],
)
def test_says_why(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GenerationParams(do_sample=True, **given)


@pytest.mark.parametrize(
    "given",
    [
        {**MIROSTAT, "temperature": 0.7, "mirostat_tau": 3, "mirostat_eta": 1},
        {**MIROSTAT, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "tfs_z": 1.0, "dynatemp_range": 0},
        {**MIROSTAT, "dry_multiplier": 0.8, "repetition_penalty": 1.1},
        {"mirostat_mode": 0, "top_p": 0.9},
        {"top_k": 0, "sampler_order": ["top_p"]},
        {"temperature": 0.5, "dynatemp_range": 2.0, "dynatemp_exponent": 0.5},
        {"dry_multiplier": 1, "dry_sequence_breakers": ["\n", 5], "dry_penalty_last_n": 64},
    ],
)
def test_accepts_what_goes_together(given: dict[str, Any]) -> None:
    GenerationParams(do_sample=True, **given)


@pytest.mark.parametrize("name", ["xtc_probability", "mirostat_mode"])
def test_a_strategy_without_a_sequences_state_refuses_what_needs_it(name: str) -> None:
    params = GenerationParams(do_sample=True, **{name: 1})
    with pytest.raises(ParameterError, match=rf"{name}=1(\.0)? draws each sequence by itself"):
        list(warper_steps(params))


def test_mirostat_takes_the_place_of_a_models_defaults() -> None:
    defaults = {"do_sample": True, "top_k": 40, "top_p": 0.9, "xtc_probability": 0.1}
    defaults |= {"xtc_threshold": 0.2, "temperature": 0.6, "sampler_order": [*ON]}
    params = GenerationParams.create(MIROSTAT, defaults)
    assert params.active_warpers == ("temperature",)
    assert params.temperature == 0.6


def test_a_given_warper_and_a_default_mirostat_are_an_error() -> None:
    defaults = {"do_sample": True, **MIROSTAT}
    with raises(ParameterError, parameters={"mirostat_mode": 2, "top_p": 0.9}):
        GenerationParams.create({"top_p": 0.9}, defaults)
    params = GenerationParams.create({"top_p": 0.9, "mirostat_mode": None}, defaults)
    assert params.active_warpers == ("top_k", "top_p")
