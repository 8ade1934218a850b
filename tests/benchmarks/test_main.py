from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import choose, parser

DEMO = str(Path(__file__).parents[2] / "gpt2onnx" / "demo" / "model")


def chosen(*options: str) -> list[str]:
    arguments = parser().parse_args(["--checkpoint", DEMO, *options])
    return [variant.name for variant in choose(arguments)]


def test_ours_come_first_and_the_rest_is_everyone() -> None:
    names = chosen("--ours", "int4,int8")
    assert names[:2] == ["gpt2onnx int4", "gpt2onnx int8"]
    assert {"transformers bf16", "Optimum fp32", "CTranslate2 int8", "OpenVINO bf16"} < set(names)
    assert {"llama.cpp Q8_0", "llama.cpp Q4_0", "onnxruntime-genai, our int8 graph"} < set(names)


def test_one_engine_in_all_its_settings() -> None:
    names = chosen("--ours", "int8", "--peers", "llama_cpp")
    assert names == ["gpt2onnx int8", "llama.cpp Q8_0", "llama.cpp Q4_0"]


def test_quick_leaves_out_what_compiles() -> None:
    assert set(chosen()) - set(chosen("--quick")) == {"transformers fp32, compiled, static cache"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--peers", "vllm"], "--peers vllm: expected some of ctranslate2"),
        (["--ours", "int3"], "--ours int3: expected some of fp16"),
        (["--threads", "0"], "--threads 0: expected 1 or more"),
        (["--rounds", "0"], "--rounds 0: expected 1 or more"),
        (["--checkpoint", "/nowhere"], "--checkpoint /nowhere: expected a folder"),
        (["--write", "/nowhere.md"], r"/nowhere\.md: expected a file with the lines"),
    ],
)
def test_what_cannot_be_run_is_said_at_once(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen(*options)
