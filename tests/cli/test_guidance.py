"""gpt2onnx generate with guidance."""

from __future__ import annotations

from gpt2onnx import Model
from tests.cli.conftest import Run


def test_a_negative_prompt(run: Run, folder: str, model: Model) -> None:
    given = ("generate", "hello", "--model", folder, "--max-new-tokens", 9, "--guidance-scale", 3)
    for option, negative in (((), None), (("--negative-prompt", "bye"), "bye")):
        wanted = model.generate(
            "hello", max_new_tokens=9, guidance_scale=3, negative_prompt=negative
        )
        assert run(*given, *option) == (0, wanted.text + "\n", "")


def test_a_negative_prompt_alone_is_a_mistake(run: Run, folder: str) -> None:
    status, out, err = run("generate", "hello", "--model", folder, "--negative-prompt", "bye")
    assert (status, out) == (2, "")
    message = "--negative-prompt has no effect without --guidance-scale other than 1"
    assert err.startswith(f"gpt2onnx: error: {message}")
