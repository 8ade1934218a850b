"""generation_config.json as transformers writes it."""

from __future__ import annotations

from gpt2onnx.samplers import GenerationParams, defaults_from_generation_config, penalty_steps


def test_every_default_of_transformers_is_neutral() -> None:
    """A file that spells out all of GenerationConfig asks for nothing but greedy decoding."""
    import transformers

    config = transformers.GenerationConfig().to_dict()
    params = GenerationParams.create({}, defaults_from_generation_config(config)).for_prompt(5)
    assert not params.do_sample
    assert not list(penalty_steps(params, 5, 0))
    assert params.max_new_tokens == GenerationParams().max_new_tokens
