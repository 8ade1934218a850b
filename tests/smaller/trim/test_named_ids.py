from __future__ import annotations

from gpt2onnx.smaller.trim.named_ids import ids_in, with_new_ids

SETTINGS = {
    "eos_token_id": [5, 6],
    "bos_token_id": 7,
    "pad_token_id": None,
    "sep_token_id": -1,
    "forced_eos_token_id": 8,
    "suppress_tokens": [9],
    "bad_words_ids": [[10], [11, 12]],
    "force_words_ids": [[[13, 14], [15]]],
    "sequence_bias": [[[16, 17], -10.0], [[18], 2]],
    "forced_decoder_ids": [[1, 19]],
    "logit_bias": {"20": 1.5},
    "dry_sequence_breakers": ["\n", 21],
    "task_specific_params": {"text-generation": {"max_length": 50, "bos_token_id": 22}},
    "n_layer": 12,
    "top_k": 50,
    "do_sample": True,
}


def test_every_id_is_mapped_and_nothing_else() -> None:
    assert with_new_ids(SETTINGS, lambda index: index + 100) == {
        "eos_token_id": [105, 106],
        "bos_token_id": 107,
        "pad_token_id": None,
        "sep_token_id": 99,
        "forced_eos_token_id": 108,
        "suppress_tokens": [109],
        "bad_words_ids": [[110], [111, 112]],
        "force_words_ids": [[[113, 114], [115]]],
        "sequence_bias": [[[116, 117], -10.0], [[118], 2]],
        "forced_decoder_ids": [[1, 119]],
        "logit_bias": {"120": 1.5},
        "dry_sequence_breakers": ["\n", 121],
        "task_specific_params": {"text-generation": {"max_length": 50, "bos_token_id": 122}},
        "n_layer": 12,
        "top_k": 50,
        "do_sample": True,
    }


def test_the_ids_are_told() -> None:
    assert ids_in(SETTINGS) == {-1, *range(5, 23)}


def test_sequences_that_are_keys() -> None:
    assert with_new_ids({"sequence_bias": {"(1, 2)": 3}}, lambda index: index * 10) == {
        "sequence_bias": {"(10, 20)": 3}
    }
