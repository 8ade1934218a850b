"""best_of beside transformers' log-probabilities."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gpt2onnx import Model
from tests.runtime.decoding.test_ranking import DRAWN


def test_processed_logprobs_are_those_of_the_draw(model: Model) -> None:
    parameters = {**DRAWN, "temperature": 0.7, "top_k": 5, "frequency_penalty": 1.5}
    written = model.generate("abc", top_logprobs=257, **parameters)
    tokens = list(model.stream("abc", **parameters))
    assert [token.processed_logprob for token in tokens] == written.processed_logprobs
    counts = torch.zeros(257)
    for token, processed, every in zip(
        written.token_ids, written.processed_logprobs, written.alternatives, strict=True
    ):
        own = torch.tensor([each.logprob for each in sorted(every)])
        best = ((own - 1.5 * counts) / 0.7).topk(5)
        rank = best.indices.tolist().index(token)
        assert processed == pytest.approx(float(best.values.log_softmax(0)[rank]), abs=1e-4)
        counts[token] += 1


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"num_beams": 2, "num_return_sequences": 2},
        {"do_sample": True, "num_return_sequences": 2},
        {"prompt_lookup_num_tokens": 3},
    ],
)
def test_prompt_logprobs_are_the_models(
    model: Model, reference: Any, parameters: dict[str, Any]
) -> None:
    prompts = ["hello", "a longer prompt", ""]
    groups: list[Any] = model.generate(
        prompts, prompt_logprobs=True, max_new_tokens=3, **parameters
    )
    for group in groups:
        for each in group if isinstance(group, list) else [group]:
            ids = torch.tensor([each.prompt_token_ids])
            with torch.no_grad():
                logprobs = reference(ids).logits[0, :-1].log_softmax(-1)
            expected = logprobs.gather(1, ids[0, 1:, None])[:, 0].tolist()
            assert each.prompt_logprobs == pytest.approx(expected, abs=1e-4)


def test_prompt_alternatives_are_the_largest(model: Model, reference: Any) -> None:
    written = model.generate("hello", prompt_logprobs=True, top_logprobs=3, max_new_tokens=1)
    with torch.no_grad():
        logits = reference(torch.tensor([written.prompt_token_ids])).logits[0, :-1]
    expected = logits.log_softmax(-1).topk(3)
    found = written.prompt_alternatives
    assert [[each.id for each in place] for place in found] == expected.indices.tolist()
    assert [[each.logprob for each in place] for place in found] == [
        pytest.approx(row, abs=1e-4) for row in expected.values.tolist()
    ]
    scored = model.score(written.prompt_token_ids, add_bos=False, top_logprobs=3)
    assert scored.alternatives == found
    assert model.score("hello").alternatives == []
