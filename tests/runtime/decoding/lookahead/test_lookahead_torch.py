"""Lookahead's texts beside transformers'."""

from __future__ import annotations

import pytest

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.demo import CHECKPOINT
from tests.conftest import torch_model
from tests.runtime.decoding.lookahead.test_lookahead import TEXTS


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Model:
    out = tmp_path_factory.mktemp("demo") / "model"
    gpt2onnx.export(CHECKPOINT, out, precision="fp32", with_attention_bias=True, verify=False)
    return gpt2onnx.load(out, threads=1)


def test_greedy_text_is_that_of_transformers(demo: Model) -> None:
    import torch

    prompt = demo.tokenizer.encode(TEXTS[1]).ids
    with torch.inference_mode():
        wanted = torch_model(CHECKPOINT).generate(
            torch.tensor([prompt]), max_new_tokens=60, do_sample=False, pad_token_id=0
        )
    written = demo.generate(prompt, max_new_tokens=60, lookahead_window_size=4)
    assert written.token_ids == wanted[0, len(prompt) :].tolist()
