"""The most probable tokens before and after penalties and warpers, against transformers' scores."""

from __future__ import annotations

from typing import Any

import pytest

from gpt2onnx import Model


def test_the_chosen_one_is_among_all(model: Model) -> None:
    given: dict[str, Any] = {"do_sample": True, "seed": 1, "top_k": 4, "max_new_tokens": 6}
    tokens = list(model.stream("abc", top_logprobs=257, **given))
    for token in tokens:
        assert len(token.processed_alternatives) == 4
        chosen = {each.id: each.logprob for each in token.processed_alternatives}
        assert chosen[token.id] == pytest.approx(token.processed_logprob, abs=1e-6)
    whole = model.generate("abc", top_logprobs=257, **given)
    assert whole.processed_alternatives == [token.processed_alternatives for token in tokens]


@pytest.mark.parametrize("guided", [{"guidance_scale": 2.0, "negative_prompt": "b"}, {}])
def test_untouched_greedy_logits_have_one_list(model: Model, guided: dict[str, Any]) -> None:
    """Guidance changes what is chosen from, and nothing of what the model itself thinks."""
    written = model.generate("abc", max_new_tokens=4, top_logprobs=3, **guided)
    same = written.processed_alternatives == written.alternatives
    assert same == (not guided)
    assert [each[0].id for each in written.processed_alternatives] == written.token_ids


def test_a_beam_search_has_the_models_own_alone(model: Model) -> None:
    written = model.generate("abc", max_new_tokens=4, top_logprobs=3, num_beams=2)
    assert [len(each) for each in written.alternatives] == [3] * 4
    assert written.processed_alternatives == []


def test_none_unless_asked(model: Model) -> None:
    assert model.generate("abc", max_new_tokens=2).processed_alternatives == [(), ()]
