"""Everything that decodes, over an int8 KV cache: as transformers over rounded keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.runtime.machine.processor import processor
from tests.export.rounded_attention import attention_over, calibrated, rounding

PROMPTS = [np.random.default_rng(n).integers(0, 256, n).tolist() for n in (1, 2, 7, 19, 40)]


# Before VNNI ONNX Runtime's 4-bit product of one row adds up in another order than of several.
INT4 = [] if processor().saturates_int8 else ["int4"]


@pytest.fixture(scope="module", params=["fp32", "int8", "int8-dynamic", *INT4])
def cached(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    """With all that a graph can have besides; gives back every row."""
    options: dict[str, Any] = {"precision": request.param, "kv_cache": "int8", "verify": False}
    out = tmp_path_factory.mktemp("cached") / "model"
    gpt2onnx.export(checkpoint, out, with_hidden_states=True, with_attention_bias=True, **options)
    model = gpt2onnx.load(out, threads=1)
    assert model.folder.manifest is not None
    assert model.folder.manifest["kv_cache"] == "int8"
    yield model
    assert model.decoder.cache.rows == []  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def fp32(models: Callable[..., Path]) -> Model:
    return gpt2onnx.load(models("fp32", "int8"), threads=1)


@pytest.fixture
def rounded(reference: Any) -> Iterator[Any]:
    """`reference`, that rounds its keys and values as the export does."""
    with attention_over(rounding(calibrated(reference, (16, 64)))):
        yield reference


@pytest.mark.parametrize("num_beams", [1, 4])
def test_the_tokens_are_those_of_transformers(fp32: Model, rounded: Any, num_beams: int) -> None:
    together = fp32.generate(PROMPTS, max_new_tokens=20, num_beams=num_beams)
    for prompt, found in zip(PROMPTS, together, strict=True):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            [written] = rounded.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=20,
                num_beams=num_beams,
                do_sample=False,
                pad_token_id=0,
            )
        assert found.token_ids == written[len(prompt) :].tolist()[: len(found.token_ids)]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"do_sample": True, "seed": 5, "num_return_sequences": 3},
        {"num_beams": 3, "num_return_sequences": 2},
        {"penalty_alpha": 0.6, "top_k": 4},
    ],
    ids=["greedy", "drawn", "beams", "contrastive"],
)
def test_neighbours_change_nothing(cached: Model, parameters: dict[str, Any]) -> None:
    parameters = {"max_new_tokens": 16, **parameters}
    together = cached.generate(PROMPTS, **parameters)
    alone = [cached.generate(prompt, **parameters) for prompt in PROMPTS]
    if "seed" in parameters:  # the prompts of a call draw from seeds of their own
        assert together[0] == alone[0]
    else:
        assert together == alone


def test_speculation_is_exact(cached: Model) -> None:
    """Bit for bit, in every precision: a lone token's attention adds up as that of several."""
    ids = [*range(30), *range(20)]
    plain = cached.generate(ids, max_new_tokens=14, eos_token_id=[])
    drafted = cached.generate(ids, max_new_tokens=14, eos_token_id=[], prompt_lookup_num_tokens=5)
    assert drafted.speculation is not None
    assert (drafted.token_ids, drafted.logprobs) == (plain.token_ids, plain.logprobs)
    written = ids + plain.token_ids[:-1]
    read = cached.generate(written, max_new_tokens=1, eos_token_id=[], prompt_logprobs=True)
    assert read.prompt_logprobs is not None
    assert [*read.prompt_logprobs[len(ids) - 1 :], *read.logprobs] == plain.logprobs


def test_lookahead(cached: Model) -> None:
    """What it keeps lay elsewhere in the row when it was read, and was added up in that order."""
    ids = [*range(30), *range(20)]
    plain = cached.generate(ids, max_new_tokens=14, eos_token_id=[])
    ahead = cached.generate(ids, max_new_tokens=14, eos_token_id=[], lookahead_window_size=3)
    assert ahead.speculation is not None
    assert ahead.token_ids == plain.token_ids
    assert ahead.logprobs == pytest.approx(plain.logprobs, abs=1e-2)


def test_guidance_and_the_whole_context(cached: Model) -> None:
    guided = cached.generate("hello", max_new_tokens=8, guidance_scale=2.0, negative_prompt="x")
    assert len(guided.token_ids) <= 8
    full = cached.generate("x" * 70, max_new_tokens=5, eos_token_id=[], overflow="slide")
    assert len(full.token_ids) == 5
