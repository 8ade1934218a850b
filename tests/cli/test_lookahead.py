"""gpt2onnx export --with-attention-bias, and generate with lookahead decoding."""

from __future__ import annotations

import json
from pathlib import Path

from gpt2onnx.cli.commands import generate
from gpt2onnx.cli.options import parameters
from tests.cli.conftest import Run

SIZES = ("--lookahead-window-size", 3, "--lookahead-ngram-size", 3)


def test_options_become_parameters() -> None:
    options = ["--lookahead-window-size=3", "--lookahead-ngram-size=4"]
    args = generate.parser().parse_args([*options, "--lookahead-guess-set-size=5"])
    assert parameters.given_parameters(args) == {
        "lookahead_window_size": 3,
        "lookahead_ngram_size": 4,
        "lookahead_guess_set_size": 5,
    }


def test_from_a_checkpoint_to_a_text(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    exported = ("export", checkpoint, out, "--precision", "fp32", "--no-verify")
    assert run(*exported, "--with-attention-bias")[0] == 0
    given = ("generate", "abababab", "--model", out, "--max-new-tokens", 12)
    plain = run(*given)
    assert run(*given, *SIZES) == plain
    _, text, err = run(*given, *SIZES, "--json", "--stats")
    assert json.loads(text)["text"] + "\n" == plain[1]
    assert err.splitlines()[-1].startswith("drafts ")
    assert err.splitlines()[-1].endswith("tokens a step")


def test_a_folder_without_the_bias(run: Run, folder: str) -> None:
    status, out, err = run("generate", "hello", "--model", folder, *SIZES)
    assert (status, out) == (2, "")
    assert "--with-attention-bias" in err
    assert err.count("\n") == 1
