"""Settings of a checkpoint: which file's hold, what is kept of them, and what is told."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

import gpt2onnx
from gpt2onnx.errors import SettingsWarning, UnsupportedConfigError
from gpt2onnx.export.checkpoint.generation_settings import kept_settings
from gpt2onnx.samplers import GenerationParams, defaults_from_generation_config
from gpt2onnx.samplers.params.generation_config import (
    _OF_TRANSFORMERS,
    _UNSET_IN_CONFIG,
    NEUTRAL,
    WITHOUT_EFFECT,
    settings_in_force,
)
from tests.checkpoints import make_checkpoint

TASK = {"task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}}
BEAMS = {"num_beams": 3, "early_stopping": True, "length_penalty": 2.0, "max_length": 50}
MADE = {"_from_model_config": True, "bos_token_id": 256, "eos_token_id": 256}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("source"))


@pytest.fixture
def checkpoint_with(source: Path, tmp_path: Path) -> Callable[..., Path]:
    def made(config: dict[str, Any], generation_config: dict[str, Any] | None) -> Path:
        folder = shutil.copytree(source, tmp_path / "checkpoint")
        whole = json.loads((folder / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(whole))
        (folder / "generation_config.json").unlink()
        if generation_config is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation_config))
        return folder

    return made


@pytest.mark.parametrize(
    ("config", "generation_config"),
    [
        ({}, None),
        (TASK, None),
        ({"repetition_penalty": 1.5, "no_repeat_ngram_size": 3, "seed": 4, "top_a": 0.5}, None),
        ({**BEAMS, "suppress_tokens": [5], "bad_words_ids": [[7, 8]]}, None),
        ({"do_sample": True, "temperature": 0.5, "top_k": 7, "top_p": 0.9, "min_length": 4}, None),
        ({"guidance_scale": 2.0, "max_length": 20, "num_beams": None}, None),
        ({"forced_eos_token_id": 5, "begin_suppress_tokens": [3], "typical_p": 0.5}, None),
        ({"repetition_penalty": 1.5}, {"eos_token_id": 256}),
        ({"repetition_penalty": 1.5}, {}),
        ({"repetition_penalty": 1.5}, MADE),
        ({"repetition_penalty": 1.5}, {**MADE, "do_sample": True, "top_k": 5}),
        ({"repetition_penalty": 1.0, "guidance_scale": 2.0}, MADE),
        ({}, {**MADE, "do_sample": True, "top_k": 5}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_settings_are_those_that_transformers_goes_by(
    checkpoint_with: Callable[..., Path], config: Any, generation_config: Any
) -> None:
    from transformers import GPT2LMHeadModel

    folder = checkpoint_with(config, generation_config)
    model = GPT2LMHeadModel.from_pretrained(folder)
    expected = model._prepare_generation_config(None, None)[0].to_dict()
    whole = json.loads((folder / "config.json").read_text())
    settings, _ = settings_in_force(whole, generation_config)
    unset = GenerationConfig().to_dict()
    for key in _OF_TRANSFORMERS - {"eos_token_id"}:
        found = settings.get(key)
        assert (unset[key] if found is None else found) == expected[key], key


def test_the_names_are_transformers(source: Path) -> None:
    known = GenerationConfig().to_dict().keys()
    assert known <= _OF_TRANSFORMERS | WITHOUT_EFFECT | NEUTRAL.keys()
    assert known >= _OF_TRANSFORMERS
    from transformers import GPT2Config

    assert GPT2Config._get_global_generation_defaults() == _UNSET_IN_CONFIG


def test_settings_of_config_json_reach_the_model(checkpoint_with: Callable[..., Path]) -> None:
    folder = checkpoint_with({**BEAMS, "repetition_penalty": 1.5, **TASK}, None)
    made = gpt2onnx.export(folder, folder / "out", precision="fp32", verify=False)
    params = gpt2onnx.load(made.folder).params({})
    assert (params.num_beams, params.early_stopping, params.length_penalty) == (3, True, 2.0)
    assert (params.max_length, params.repetition_penalty) == (50, 1.5)
    (made.folder / "manifest.json").unlink()
    (made.folder / "generation_config.json").unlink()  # as other exporters' folders
    assert gpt2onnx.load(made.folder).params({}) == params


@pytest.mark.parametrize(
    "settings",
    [
        {"top_h": None, "forced_decoder_ids": None, "my_own": None, "sequence_bias": None},
        {"use_mtp": True, "speculation_type": "eagle", "max_cache_len": 64},
        {"continuous_batching_config": {"block_size": 4}, "assistant_ensemble_weight": None},
        {"generation_kwargs": {}, "encoder_repetition_penalty": 1.0, "token_healing": False},
        {"disable_compile": True, "compile_config": {"mode": "default"}, "low_memory": True},
    ],
)
def test_what_is_neutral_changes_nothing(settings: dict[str, Any]) -> None:
    kept = kept_settings({}, settings, 257)
    assert (kept.left_out, kept.problems) == ((), ())
    assert kept.generation_config == settings
    assert GenerationParams.create({}, defaults_from_generation_config(settings)) == (
        GenerationParams()
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("my_own", 1, "generation_config.json has the unknown key 'my_own'"),
        ("temprature", 0.7, "has the unknown key 'temprature'"),
        ("top_h", 0.5, "top_h=0.5, which isn't supported: expected null"),
        ("forced_decoder_ids", [[1, 5]], "forced_decoder_ids=.* which isn't supported"),
        ("assistant_ensemble_weight", 0.5, "which isn't supported: expected null"),
        ("encoder_repetition_penalty", 1.5, "which isn't supported: expected 1"),
        ("stop_fn", "x", "has the unknown key 'stop_fn'"),
        ("temperature", "hot", "temperature='hot': expected"),
        ("max_new_tokens", 0, "max_new_tokens=0: expected an integer of at least 1"),
        ("early_stopping", "maybe", "early_stopping='maybe': expected"),
        ("suppress_tokens", [257], "suppress_tokens holds token 257, the model's vocabulary has"),
        ("bad_words_ids", [[5], [300, 1]], "bad_words_ids holds token 300"),
        ("forced_eos_token_id", 900, "forced_eos_token_id holds token 900"),
    ],
)
def test_what_cannot_be_heeded_is_left_out(key: str, value: Any, message: str) -> None:
    kept = kept_settings({}, {"eos_token_id": 256, key: value, "top_p": 0.5}, 257)
    assert kept.generation_config == {"eos_token_id": 256, "top_p": 0.5}
    assert kept.left_out == (key,)
    with pytest.warns(SettingsWarning, match=f"{message}.*; left out of the model folder"):
        kept.tell(strict=False)
    with pytest.raises(UnsupportedConfigError, match=message):
        kept.tell(strict=True)


def test_a_combination_that_cannot_run_is_told_and_kept() -> None:
    settings = {"min_length": 5, "max_length": 3}
    kept = kept_settings({}, settings, 257)
    assert kept.generation_config == settings
    with pytest.warns(SettingsWarning, match="no text can be generated by these settings: min_len"):
        kept.tell(strict=False)


def test_a_config_json_whose_settings_cannot_all_be_heeded() -> None:
    config = {"encoder_repetition_penalty": 1.5, "repetition_penalty": 1.2, "my_own": 5}
    kept = kept_settings(config, None, 257)
    assert kept.generation_config == {"repetition_penalty": 1.2}
    assert kept.left_out == ("encoder_repetition_penalty",)
    assert settings_in_force(config, kept.generation_config)[0] == {"repetition_penalty": 1.2}


def test_a_folder_without_what_is_unknown(checkpoint_with: Callable[..., Path]) -> None:
    folder = checkpoint_with({}, {"eos_token_id": 256, "my_own": 1, "max_new_tokens": 3})
    with pytest.warns(SettingsWarning, match="my_own") as told:
        made = gpt2onnx.export(folder, folder / "out", precision="fp32", verify=False)
    assert told[0].filename == __file__
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["settings_left_out"] == ["my_own"]
    assert len(gpt2onnx.load(made.folder).generate("a", eos_token_id=None).token_ids) == 3
    with pytest.raises(UnsupportedConfigError, match="my_own"):
        gpt2onnx.export(folder, folder / "other", strict=True)
    assert not (folder / "other").exists()


def test_the_command_line_warns_in_a_line(
    checkpoint_with: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from gpt2onnx.cli import main

    folder = checkpoint_with({}, {"my_own": 1})
    options = [str(folder), str(folder / "out"), "--precision", "fp32", "--no-verify"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["export", *options]) == 0
    said = capsys.readouterr().err
    assert said.startswith("gpt2onnx: warning: generation_config.json has the unknown key 'my_own'")
    assert said.count("\n") == 1
    assert main(["export", *options, "--force", "--strict"]) == 2
    assert capsys.readouterr().err.startswith("gpt2onnx: error: generation_config.json has the unk")
