"""Whatever a call is given, it succeeds or says by name what is wrong: no other error, no warning.

Names are GenerationParams' own, and values of all kinds. The short runs are samples of the long
one: `pytest -m slow tests/runtime/test_fuzz.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import gpt2onnx
from gpt2onnx import GenerationParams, Gpt2OnnxError, Model
from gpt2onnx.samplers.params import PARAMETERS, defaults_from_generation_config

SHORT, LONG = 150, 10_000
HUGE = [10**9, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**30, -(10**30), 10**400, -(10**5000)]
EXTREME = [1e-30, 1e30, 1e38, 3.4e38, 1e-320, 1e308, float("nan"), float("inf"), -float("inf")]
ODD: list[Any] = [
    *(None, True, False, "", "a", "never", "yes", "2", "\0", "\ud800", "x" * 5000, "1" * 5000),
    *(b"a", Decimal("0.5"), Fraction(1, 2), 1j, object(), Ellipsis, range(3), {1, 2}, slice(2)),
    *([], [[]], [[1], [2, 3]], [[[1], [2]]], [None], [True], ["a", 3], {}, {"a": 1}, {1: 0.5}, ()),
    *(np.array([1, 2]), np.array([]), np.array(3), np.zeros((2, 2)), np.array(["a"]), np.nan),
    *(np.int64(3), np.float32(0.5), np.bool_(True), np.uint64(2**63), np.array([None])),
    *(lambda sequence, history: True, lambda: 1, print),
]
DEEP: Any = []
for _ in range(5000):
    DEEP = [DEEP]
values = st.one_of(
    st.integers(-2, 70),
    st.floats(0, 2),
    st.floats(),
    st.sampled_from([*HUGE, *EXTREME]),
    st.sampled_from([*ODD, DEEP]),
    st.booleans(),
    st.lists(st.integers(0, 300), max_size=3),
    st.lists(st.lists(st.integers(0, 256), min_size=1, max_size=3), max_size=3),
    st.dictionaries(st.integers(0, 256), st.sampled_from([-1.0, 1e30, -1e38, 1e38, 1e308])),
)

# What each parameter may well be, so that calls come far, extremes among it.
SANE: dict[str, Any] = {
    "temperature": [0.5, 1e-30, 1e-20, 1e30, 1e300],
    "dynatemp_range": [0.5, 1e30, 1e300],
    "dynatemp_exponent": [2, 1e-30, 1e30, 1e300],
    "top_k": [1, 3, 0, 2**63 - 1],
    "top_p": [0.5, 0, 1, 1e-30],
    "min_p": [0.1, 0, 1, 1e-300],
    "typical_p": [0.5, 1, 1e-300],
    "epsilon_cutoff": [0.1, 1e-300],
    "eta_cutoff": [0.1, 1e-300],
    "top_n_sigma": [1, 0, 1e30, 1e300],
    "tfs_z": [0.5, 0, 1],
    "top_a": [0.5, 0, 1, 1e-300],
    "xtc_probability": [0.5, 1],
    "xtc_threshold": [0.1, 1e-300],
    "mirostat_mode": [1, 2],
    "mirostat_tau": [5, 1e-30, 1e30, 1e300],
    "mirostat_eta": [0.1, 1e-30, 1e30, 1e300],
    "seed": [1, 2**511],
    "num_return_sequences": [2, 3],
    "best_of": [3, 4],
    "num_beams": [2, 4],
    "length_penalty": [1, -10, 10, 0],
    "early_stopping": [True, "never"],
    "num_beam_groups": [2],
    "diversity_penalty": [0.5, 1e30, 1e38, 1e300],
    "force_words_ids": [[[5]], [[[1], [2]]]],
    "penalty_alpha": [0.6, 1, 1e-300],
    "prompt_lookup_num_tokens": [3, 2**63 - 1],
    "max_matching_ngram_size": [2, 2**63 - 1],
    "lookahead_window_size": [2],
    "lookahead_ngram_size": [3],
    "lookahead_guess_set_size": [2],
    "guidance_scale": [1.5, 0, -1, 1e29, -1e29],
    "repetition_penalty": [1.2, 1e-30, 1e30, 1e38, 1e300, 1e-300],
    "frequency_penalty": [2, -2],
    "presence_penalty": [2, -2],
    "no_repeat_ngram_size": [2, 2**63 - 1],
    "dry_multiplier": [0.8, 1e29, 1e-300],
    "dry_base": [1.75, 1, 1e29, 1 + 1e-15],
    "dry_allowed_length": [2, 2**63 - 1],
    "dry_penalty_last_n": [-1, 5, 2**63 - 1],
    "dry_sequence_breakers": [[1, "a"], []],
    "logit_bias": [{5: -1.0}, {5: 1e30}, {5: 1e38, 6: -1e38}, {5: -1e38}, {5: 1e300}],
    "bad_words_ids": [[[5]], [[5, 6]]],
    "suppress_tokens": [[5, 6]],
    "begin_suppress_tokens": [[5]],
    "forced_eos_token_id": [256],
    "min_new_tokens": [2, 2**63 - 1],
    "max_new_tokens": [3, 2**63 - 1],
    "max_length": [12, 2**63 - 1],
    "max_time": [1e-9, 1e300],
    "eos_token_id": [256, [3, 4], 50256],
    "overflow": ["slide", "truncate"],
    "regex": ["[a-z]{3}"],
    "choices": [["a", "b"]],
    "stop_strings": ["a", ["ab", "c"]],
    "stop_fn": [lambda sequence, history: len(history) > 8],
    "sampler_order": [["temperature", "top_k"]],
}
NAMES = st.sampled_from([*PARAMETERS, "max_tokens", "x" * 5000, "\ud800"])
sane = st.sampled_from(sorted(SANE)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(SANE[name]))
)


def completed(names: list[str], data: dict[str, Any], sampled: bool) -> dict[str, Any]:
    """Parameters that go together, so that a call comes to the end of the chain."""
    given = {name: data[name] for name in names}
    if sampled:
        given |= {"do_sample": True, "seed": 1}
    for name, needed in NEEDED.items():
        if name in given:
            given = {**needed, **given}
    return given


NEEDED: dict[str, dict[str, Any]] = {
    "mirostat_tau": {"mirostat_mode": 1},
    "mirostat_eta": {"mirostat_mode": 2},
    "dynatemp_exponent": {"dynatemp_range": 0.5},
    "xtc_threshold": {"xtc_probability": 0.5},
    "dry_base": {"dry_multiplier": 0.8},
    "dry_allowed_length": {"dry_multiplier": 0.8},
    "dry_penalty_last_n": {"dry_multiplier": 0.8},
    "length_penalty": {"num_beams": 2},
    "diversity_penalty": {"num_beams": 4, "num_beam_groups": 2},
    "best_of": {"do_sample": True},
}
CHAIN = [
    *("temperature", "dynatemp_range", "dynatemp_exponent", "top_k", "top_p", "min_p", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff", "top_n_sigma", "tfs_z", "top_a", "xtc_threshold"),
    *("mirostat_tau", "mirostat_eta", "repetition_penalty", "frequency_penalty", "logit_bias"),
    *("presence_penalty", "no_repeat_ngram_size", "dry_multiplier", "dry_base"),
    *("dry_allowed_length", "dry_penalty_last_n"),
    *("guidance_scale", "num_beams", "length_penalty", "diversity_penalty"),
    *("penalty_alpha", "suppress_tokens", "regex", "best_of", "prompt_lookup_num_tokens"),
]
coherent = st.builds(
    completed,
    st.lists(st.sampled_from(CHAIN), min_size=1, max_size=4, unique=True),
    st.fixed_dictionaries({name: st.sampled_from(SANE[name]) for name in CHAIN}),
    st.booleans(),
)
parameters = st.one_of(
    coherent, st.builds(dict, st.lists(st.one_of(sane, st.tuples(NAMES, values)), max_size=4))
)
beside = st.builds(
    dict,
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    *("top_logprobs", "prompt_logprobs", "observe", "draft", "negative_prompt"),
                    "entropies",
                ]
            ),
            st.one_of(values, st.sampled_from([True, 2, "no", len])),
        ),
        max_size=1,
    ),
)
prompts = st.one_of(
    st.sampled_from(["hello", "", [3, 4], ["a", "b c"], [[1], [2, 3, 4]], np.array([5, 6])]),
    st.sampled_from(["hello", [3, 4] * 5, [256]]),
    values,
)
flags = st.one_of(st.booleans(), values)
examples = settings(
    max_examples=SHORT, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
many = settings(examples, max_examples=LONG)


def tried(call: Callable[[], object]) -> None:
    try:
        call()
    except Gpt2OnnxError as error:
        message = str(error)
        assert message
        assert message.isprintable()
        assert len(message) < 3000, message


def generate(model: Model, prompt: Any, given: dict[str, Any], more: dict[str, Any]) -> None:
    limits = {"max_new_tokens": 6} if "max_length" not in given else {}
    whole = {"max_time": 0.1, **limits, **given, **more}

    def stream() -> None:
        for _, _token in zip(range(40), model.stream(prompt, **whole), strict=False):
            pass

    tried(lambda: model.generate(prompt, **whole))
    tried(stream)
    decoder: Any = model.decoder
    assert decoder.cache.rows == []


def score(model: Model, text: Any, add_bos: Any, stride: Any) -> None:
    tried(lambda: model.score(text, add_bos=add_bos))
    tried(lambda: gpt2onnx.evaluate(model, text, add_bos=add_bos, stride=stride, max_tokens=stride))


def create(given: dict[str, Any], defaults: dict[str, Any]) -> None:
    tried(lambda: GenerationParams.create(given, defaults))
    known = {name: value for name, value in given.items() if name in PARAMETERS}
    tried(lambda: GenerationParams(**known))
    tried(lambda: GenerationParams.create({}, defaults_from_generation_config(_as_json(defaults))))


def _as_json(defaults: dict[str, Any]) -> dict[str, Any]:
    """What of it a file can hold."""
    kept = {}
    for name, value in defaults.items():
        try:
            kept[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError, RecursionError):
            continue
    return kept


@examples
@given(parameters, parameters)
def test_parameters(given: dict[str, Any], defaults: dict[str, Any]) -> None:
    create({n: v for n, v in given.items() if n.isidentifier()}, defaults)


@examples
@given(prompts, parameters, beside)
def test_generate(able: Model, prompt: Any, given: dict[str, Any], more: dict[str, Any]) -> None:
    generate(able, prompt, given, more)


@examples
@given(prompts, flags, values)
def test_score(able: Model, text: Any, add_bos: Any, stride: Any) -> None:
    score(able, text, add_bos, stride)


OWN = "the model's own"
# Each argument of load is what it may be three times of four, so that calls come far.
loads = st.fixed_dictionaries(
    {"folder": st.one_of(*3 * [st.just(OWN)], values)},
    optional={
        "provider": st.one_of(*3 * [st.sampled_from(["auto", "cpu"])], values),
        "provider_options": st.one_of(*3 * [st.just(None)], st.just({}), values),
        "threads": st.one_of(*3 * [st.sampled_from([None, 1, 2])], values),
        "startup_cache": st.one_of(*3 * [st.booleans()], values),
        "graph": st.one_of(*3 * [st.sampled_from(["auto", "onnx"])], values),
    },
)


def load(model: Model, arguments: dict[str, Any]) -> None:
    """`gpt2onnx.load` with these arguments."""
    folder = arguments["folder"]
    if isinstance(folder, str) and folder == OWN:
        folder = model.folder.path
    tried(lambda: gpt2onnx.load(**{**arguments, "folder": folder}))


@examples
@given(loads)
def test_load(able: Model, arguments: dict[str, Any]) -> None:
    load(able, arguments)


@pytest.mark.slow
@many
@given(loads)
def test_many_loads(able: Model, arguments: dict[str, Any]) -> None:
    load(able, arguments)


@pytest.mark.slow
@many
@given(parameters, parameters)
def test_many_parameters(given: dict[str, Any], defaults: dict[str, Any]) -> None:
    create({n: v for n, v in given.items() if n.isidentifier()}, defaults)


@pytest.mark.slow
@many
@given(prompts, parameters, beside)
def test_many_generations(
    able: Model, prompt: Any, given: dict[str, Any], more: dict[str, Any]
) -> None:
    generate(able, prompt, given, more)


@pytest.mark.slow
@many
@given(prompts, flags, values)
def test_many_scores(able: Model, text: Any, add_bos: Any, stride: Any) -> None:
    score(able, text, add_bos, stride)
