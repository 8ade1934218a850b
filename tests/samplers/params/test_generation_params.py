"""GenerationParams: what is accepted and in which form, what is refused and with which words."""

from __future__ import annotations

import pickle
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.samplers.params import PARAMETERS
from tests.raising import raises

SAMPLE = {"do_sample": True}
EOS = {"eos_token_id": 9}


def allow_all(sequence_index: int, history: np.ndarray) -> list[int]:
    return [1]


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("max_new_tokens", np.int64(5), 5),
        ("max_length", 5, 5),
        ("max_time", 3, 3.0),
        ("eos_token_id", 0, (0,)),
        ("eos_token_id", [1, np.int32(2)], (1, 2)),
        ("eos_token_id", [], None),
        ("stop_strings", "\n", ("\n",)),
        ("stop_strings", ["a", "b"], ("a", "b")),
        ("overflow", "slide", "slide"),
        ("repetition_penalty", 2, 2.0),
        ("frequency_penalty", -2, -2.0),
        ("presence_penalty", np.float32(0.5), 0.5),
        ("no_repeat_ngram_size", 0, 0),
        ("logit_bias", {np.int64(5): -3}, {5: -3.0}),
        ("bad_words_ids", [[1], (2, 3)], ((1,), (2, 3))),
        ("bad_words_ids", np.array([[1, 2], [3, 4]]), ((1, 2), (3, 4))),
        ("suppress_tokens", np.array([4, 5]), (4, 5)),
        ("suppress_tokens", range(3), (0, 1, 2)),
        ("begin_suppress_tokens", {7}, (7,)),
        ("forced_bos_token_id", 0, 0),
        ("forced_eos_token_id", 3, (3,)),
        ("dry_multiplier", 0, 0.0),
        ("prefix_allowed_tokens_fn", allow_all, allow_all),
        ("stop_fn", allow_all, allow_all),
    ],
)
def test_keeps_a_value_in_one_form(name: str, value: object, kept: object) -> None:
    params = GenerationParams(**{name: value})
    assert getattr(params, name) == kept
    assert type(getattr(params, name)) is type(kept)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("\n", ("\n",)),
        (np.int64(5), (5,)),
        (["\n", 5], ("\n", 5)),
        ([], ()),
    ],
)
def test_keeps_sequence_breakers_in_one_form(given: object, kept: object) -> None:
    params = GenerationParams(dry_multiplier=0.8, dry_sequence_breakers=given)
    assert params.dry_sequence_breakers == params.dry_breakers == kept


def test_sequence_breakers_have_a_default() -> None:
    assert GenerationParams().dry_breakers == ("\n", ":", '"', "*")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_return_sequences", 3),
        ("seed", 0),
        ("seed", 2**70),
        ("temperature", 1e-6),
        ("temperature", 100),
        ("top_k", 0),
        ("top_p", 0),
        ("top_p", 1.0),
        ("min_p", 0.0),
        ("min_p", 1),
        ("typical_p", 1.0),
        ("epsilon_cutoff", 0.0),
        ("eta_cutoff", 0.5),
        ("top_n_sigma", 0),
        ("top_n_sigma", 1.5),
        ("tfs_z", 0),
        ("tfs_z", 1.0),
        ("top_a", 0),
        ("top_a", 1),
        ("dynatemp_range", 0),
        ("xtc_probability", 0),
        ("xtc_probability", 1.0),
        ("mirostat_mode", 0),
        ("mirostat_mode", 2),
    ],
)
def test_accepts_the_ends_of_each_range(name: str, value: object) -> None:
    assert getattr(GenerationParams(**SAMPLE, **{name: value}), name) == value


REFUSED: list[tuple[str, Any, str]] = [
    ("max_new_tokens", 0, "max_new_tokens=0: expected an integer of at least 1"),
    ("min_new_tokens", -1, "min_new_tokens=-1: expected an integer of at least 0"),
    ("max_time", 0, "max_time=0: expected a number of seconds above 0"),
    ("do_sample", 1, "do_sample=1: expected True or False"),
    ("seed", -1, "seed=-1: expected an integer of at least 0"),
    ("temperature", 0, "temperature=0: expected a number above 0; for greedy decoding set"),
    ("top_k", -1, "top_k=-1: expected an integer of at least 0"),
    ("top_p", 1.1, "top_p=1.1: expected a number from 0 to 1"),
    ("typical_p", 0, "typical_p=0: expected a number above 0"),
    ("epsilon_cutoff", 1, "epsilon_cutoff=1: expected a probability"),
    ("dynatemp_range", -0.1, "dynatemp_range=-0.1: expected a number of at least 0, which turns"),
    ("dynatemp_exponent", 0, "dynatemp_exponent=0: expected a number above 0"),
    ("xtc_threshold", 0, "xtc_threshold=0: expected a probability above 0, up to 0.5"),
    ("mirostat_mode", 3, r"mirostat_mode=3: expected 0 \(off\), 1 or 2"),
    ("mirostat_tau", 0, "mirostat_tau=0: expected a number of bits a token above 0"),
    (
        "sampler_order",
        [],
        r"sampler_order=\[\]: expected a list of warpers, each once, of 'top_n_si",
    ),
    ("dry_base", 0.9, "dry_base=0.9: expected a number of at least 1"),
    ("dry_penalty_last_n", 0, "dry_penalty_last_n=0: expected an integer of at least 1, or -1"),
    ("dry_sequence_breakers", [""], r"dry_sequence_breakers=\[''\]: expected non-empty strings or"),
    ("repetition_penalty", 0, "repetition_penalty=0: expected a number from 1e-30 to 1e30"),
    ("frequency_penalty", 2.1, "frequency_penalty=2.1: expected a number from -2 to 2"),
    ("logit_bias", [(1, 2.0)], r"logit_bias=\[\(1, 2.0\)\]: expected token ids with finite"),
    ("bad_words_ids", [1, 2], r"bad_words_ids=\[1, 2\]: expected a list of words"),
    ("suppress_tokens", [-1], r"suppress_tokens=\[-1\]: expected token ids"),
    ("forced_bos_token_id", [1], r"forced_bos_token_id=\[1\]: expected a token id"),
    ("prefix_allowed_tokens_fn", [1], r"expected a function .* -> allowed token ids"),
    ("stop_fn", True, r"stop_fn=True: expected a function .* -> whether to end"),
    ("stop_strings", "", "stop_strings='': expected a non-empty string"),
    ("overflow", "wrap", "overflow='wrap': expected one of 'error', 'truncate', 'slide'"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_says_what_was_expected(name: str, value: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message) as error:
        GenerationParams(**{**SAMPLE, name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 1.0),
        ("max_new_tokens", True),
        ("max_new_tokens", None),
        ("max_new_tokens", "5"),
        ("max_length", 0),
        ("min_length", -1),
        ("max_time", float("inf")),
        ("num_return_sequences", 0),
        ("seed", 1.5),
        ("temperature", 1e-40),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", True),
        ("temperature", "hot"),
        ("top_k", 5.0),
        ("top_p", -0.1),
        ("min_p", 2),
        ("typical_p", 1.5),
        ("eta_cutoff", -1e-4),
        ("top_n_sigma", -1),
        ("tfs_z", 1.1),
        ("top_a", -0.1),
        ("xtc_probability", 1.1),
        ("xtc_threshold", 0.6),
        ("mirostat_mode", 2.0),
        ("mirostat_mode", True),
        ("mirostat_eta", 0),
        ("sampler_order", "top_p"),
        ("sampler_order", {"top_p"}),
        ("sampler_order", ["top_p", "top_q"]),
        ("sampler_order", ["top_p", "top_p"]),
        ("sampler_order", ["top_p", 5]),
        ("dry_multiplier", -1),
        ("dry_base", 1e30),
        ("dry_allowed_length", 0),
        ("dry_penalty_last_n", -2),
        ("dry_sequence_breakers", [-1]),
        ("dry_sequence_breakers", [1.5]),
        ("dry_sequence_breakers", True),
        ("repetition_penalty", float("nan")),
        ("presence_penalty", -2.1),
        ("no_repeat_ngram_size", -1),
        ("logit_bias", {"5": 1.0}),
        ("logit_bias", {5: float("-inf")}),
        ("logit_bias", {-1: 1.0}),
        ("bad_words_ids", [[]]),
        ("bad_words_ids", [[-1]]),
        ("bad_words_ids", "word"),
        ("suppress_tokens", [True]),
        ("suppress_tokens", [2**40]),
        ("begin_suppress_tokens", "12"),
        ("forced_eos_token_id", 1.5),
        ("eos_token_id", -1),
        ("eos_token_id", False),
        ("stop_strings", ["a", ""]),
        ("stop_strings", [1]),
    ],
)
def test_refuses_a_value_out_of_range(name: str, value: object) -> None:
    with raises(ParameterError, parameters={name: value}):
        GenerationParams(**{**SAMPLE, name: value})


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"top_p": 1.0}, ("top_p",)),
        ({"min_p": 0.1}, ("min_p",)),
        ({"typical_p": 0.9}, ("typical_p",)),
        ({"epsilon_cutoff": 0.1}, ("epsilon_cutoff",)),
        ({"eta_cutoff": 0.1}, ("eta_cutoff",)),
        ({"top_n_sigma": 1.0}, ("top_n_sigma",)),
        ({"tfs_z": 0.9}, ("tfs_z",)),
        ({"top_a": 0.1}, ("top_a",)),
        ({"dynatemp_range": 0.5}, ("dynatemp_range",)),
        ({"xtc_probability": 0.5}, ("xtc_probability",)),
        ({"xtc_threshold": 0.1}, ("xtc_threshold", "xtc_probability")),
        ({"mirostat_mode": 2}, ("mirostat_mode",)),
        ({"mirostat_tau": 5}, ("mirostat_tau", "mirostat_mode")),
        ({"mirostat_eta": 0.1}, ("mirostat_eta", "mirostat_mode")),
        ({"sampler_order": ["top_p"]}, ("sampler_order",)),
        ({"seed": 0}, ("seed",)),
        ({**EOS, "min_new_tokens": 5, "min_length": 9}, ("min_new_tokens", "min_length")),
        ({**EOS, "min_length": 6, "max_length": 5}, ("min_length", "max_length")),
        ({"min_length": 6}, ("min_length", "eos_token_id")),
        (
            {"forced_bos_token_id": 4, "suppress_tokens": [4, 5]},
            ("forced_bos_token_id", "suppress_tokens"),
        ),
    ],
)
def test_refuses_parameters_that_contradict(given: dict[str, Any], named: tuple[str, ...]) -> None:
    with raises(ParameterError, named=named):
        GenerationParams(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.8}, "temperature=0.8 has no effect without do_sample=True"),
        ({"top_k": 50}, "top_k=50 has no effect without do_sample=True"),
        ({"dynatemp_exponent": 0.5}, "dynatemp_exponent=0.5 has no effect"),
        ({"num_return_sequences": 2}, "num_return_sequences=2 has no effect"),
        (
            {"max_new_tokens": 5, "max_length": 9},
            "max_new_tokens=5 with max_length=9: the second counts the prom",
        ),
        (
            {**EOS, "min_new_tokens": 6, "max_new_tokens": 5},
            "min_new_tokens=6 is above max_new_tokens=5: lower one or raise the other",
        ),
        ({"min_new_tokens": 6}, "min_new_tokens=6 has no effect without eos_token_id"),
        ({**EOS, "bad_words_ids": [[1], [9]]}, r"bad_words_ids holds \[9\], the end token"),
        (
            {"forced_eos_token_id": 4, "suppress_tokens": [4, 5]},
            r"forced_eos_token_id=\(4,\) is forbidden by suppress_tokens",
        ),
    ],
)
def test_says_why(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GenerationParams(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"num_return_sequences": 1},
        {"min_new_tokens": 0},
        {**EOS, "min_new_tokens": 5, "max_new_tokens": 5},
        {**EOS, "min_new_tokens": 200, "max_length": 500},
        {**EOS, "suppress_tokens": [9], "bad_words_ids": [[9, 9]]},
        {"forced_eos_token_id": [4, 6], "suppress_tokens": [4, 5]},
    ],
)
def test_accepts_parameters_that_go_together(given: dict[str, Any]) -> None:
    GenerationParams(**given)


def test_every_field_is_a_parameter() -> None:
    assert [each.name for each in fields(GenerationParams)] == list(PARAMETERS)


def test_is_hashable_comparable_and_can_be_pickled() -> None:
    given = {"eos_token_id": [1, 2], "logit_bias": {3: 1.0}, "stop_strings": ["x"]}
    params = GenerationParams(**given)
    assert params == GenerationParams(**given)
    assert hash(params) == hash(GenerationParams(**given))
    assert pickle.loads(pickle.dumps(params)) == params


def test_keeps_nothing_that_the_caller_can_change() -> None:
    bias, words = {3: 1.0}, [[1, 2]]
    params = GenerationParams(logit_bias=bias, bad_words_ids=words)
    bias[3] = 5.0
    words[0].append(3)
    assert params.logit_bias == {3: 1.0}
    assert params.bad_words_ids == ((1, 2),)


def test_end_tokens_as_a_tuple() -> None:
    assert GenerationParams().eos_token_ids == ()
    assert GenerationParams(eos_token_id=7).eos_token_ids == (7,)
    assert GenerationParams(forced_eos_token_id=[7, 8]).forced_eos_token_ids == (7, 8)


def test_for_prompt_counts_lengths_in_new_tokens() -> None:
    params = GenerationParams(max_length=50, min_length=20, eos_token_id=9).for_prompt(8)
    assert (params.max_new_tokens, params.min_new_tokens) == (42, 12)
    assert (params.max_length, params.min_length) == (None, None)
    assert params.for_prompt(8) == params


def test_for_prompt_longer_than_min_length() -> None:
    assert GenerationParams(min_length=20, eos_token_id=9).for_prompt(30).min_new_tokens == 0


@pytest.mark.parametrize(
    ("given", "prompt_length", "message"),
    [
        ({"max_length": 8}, 8, "max_length=8 leaves nothing to generate after a prompt of 8"),
        (
            {**EOS, "min_length": 30, "max_new_tokens": 5},
            10,
            "min_length=30 asks for 20 tokens after a prompt of 10: expected at most the 5",
        ),
        ({**EOS, "min_new_tokens": 30, "max_length": 20}, 5, "min_new_tokens=30 is above max_new"),
        ({"forced_bos_token_id": 3}, 4, "forced_bos_token_id=3 has no effect on a prompt of 4"),
    ],
)
def test_for_prompt_refuses(given: dict[str, Any], prompt_length: int, message: str) -> None:
    params = GenerationParams(**given)
    with pytest.raises(ParameterError, match=message):
        params.for_prompt(prompt_length)


@pytest.mark.parametrize(
    ("name", "value", "token"),
    [
        ("logit_bias", {16: 1.0, 17: 1.0}, 17),
        ("bad_words_ids", [[1], [2, 30]], 30),
        ("suppress_tokens", [17], 17),
        ("begin_suppress_tokens", [17], 17),
        ("forced_bos_token_id", 17, 17),
        ("forced_eos_token_id", [17], 17),
    ],
)
def test_check_vocabulary(name: str, value: object, token: int) -> None:
    params = GenerationParams(**{name: value})
    assert params.largest_token == token
    params.check_vocabulary(token + 1)
    with pytest.raises(ParameterError, match=f"{name} holds token {token}: expected ids from 0 to"):
        params.check_vocabulary(token)


def test_check_vocabulary_allows_an_end_token_that_never_comes() -> None:
    GenerationParams(eos_token_id=50256).check_vocabulary(1000)


def test_create_puts_given_before_defaults() -> None:
    defaults = {"eos_token_id": 9, "repetition_penalty": 1.2, "do_sample": True, "top_k": 5}
    params = GenerationParams.create({"repetition_penalty": 1.5}, defaults)
    assert (params.repetition_penalty, params.eos_token_ids, params.top_k) == (1.5, (9,), 5)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("temprature", "did you mean temperature"), ("topk", "did you mean top_k"), ("xyz", "one of")],
)
def test_create_refuses_unknown_names(name: str, advice: str) -> None:
    with pytest.raises(ParameterError, match=f"unknown parameter '{name}': .*{advice}"):
        GenerationParams.create({name: 1})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pad_token_id", "transformers' pad_token_id has no effect here: leave it out"),
        ("watermarking_config", "transformers' watermarking_config isn't supported: leave it out"),
    ],
)
def test_create_knows_the_other_names_of_transformers(name: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GenerationParams.create({name: 1})


def test_create_drops_sampling_defaults_of_a_greedy_call() -> None:
    defaults = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "num_return_sequences": 3}
    params = GenerationParams.create({"do_sample": False}, defaults)
    assert params == GenerationParams()
    assert GenerationParams.create({}, defaults).temperature == 0.6


def test_create_refuses_sampling_parameters_given_to_a_greedy_call() -> None:
    with raises(ParameterError, parameters={"temperature": 0.8}):
        GenerationParams.create({"temperature": 0.8}, {"top_k": 5})


@pytest.mark.parametrize("name", ["num_beams", "num_beam_groups"])
@pytest.mark.parametrize("value", ["4", [4]])
def test_create_refuses_what_is_no_number(name: str, value: object) -> None:
    for given, defaults in (({name: value}, {}), ({}, {"num_beams": 2, name: value})):
        with raises(ParameterError, parameters={name: value}):
            GenerationParams.create(given, defaults)


def test_none_takes_a_default_away() -> None:
    given = {"eos_token_id": None, "max_new_tokens": None, "top_p": None, "seed": None}
    params = GenerationParams.create(given, {"eos_token_id": 9, "max_new_tokens": 5})
    assert params == GenerationParams()


@pytest.mark.parametrize(
    ("given", "defaults", "lengths"),
    [
        ({"max_new_tokens": 5}, {"max_length": 50}, (5, None)),
        ({"max_length": 50}, {"max_new_tokens": 5}, (128, 50)),
        ({}, {"max_length": 50}, (128, 50)),
        ({"max_length": None}, {"max_length": 50}, (128, None)),
    ],
)
def test_a_given_length_replaces_a_default_of_either_kind(
    given: dict[str, Any], defaults: dict[str, Any], lengths: tuple[int, int | None]
) -> None:
    params = GenerationParams.create(given, defaults)
    assert (params.max_new_tokens, params.max_length) == lengths


def test_create_refuses_two_lengths_even_at_their_default() -> None:
    with raises(ParameterError, parameters={"max_new_tokens": 128, "max_length": 50}):
        GenerationParams.create({"max_new_tokens": 128, "max_length": 50})


def test_an_error_about_a_default_says_where_it_came_from() -> None:
    with pytest.raises(ParameterError, match=r"temperature came from the model's generation_conf"):
        GenerationParams.create({"do_sample": True}, {"temperature": 0.0, "eos_token_id": 9})
    with pytest.raises(ParameterError, match=r"\(min_length came from") as error:
        GenerationParams.create({"eos_token_id": None}, {"min_length": 5, "eos_token_id": 9})
    assert str(error.value).startswith("min_length=5 has no effect")
    with pytest.raises(ParameterError) as error:
        GenerationParams.create({"top_k": -1, "do_sample": True}, {"eos_token_id": 9})
    assert "came from" not in str(error.value)
