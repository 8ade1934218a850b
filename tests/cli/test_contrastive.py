"""gpt2onnx export --with-hidden-states, and generate --penalty-alpha."""

from __future__ import annotations

from pathlib import Path

import gpt2onnx
from tests.cli.conftest import Run


def test_from_a_checkpoint_to_a_text(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    exported = ("export", checkpoint, out, "--precision", "fp32", "--no-verify")
    assert run(*exported, "--with-hidden-states")[0] == 0
    given = ("generate", "hello", "--model", out, "--max-new-tokens", 9)
    wanted = gpt2onnx.load(out).generate("hello", max_new_tokens=9, penalty_alpha=0.6, top_k=4)
    asked = run(*given, "--penalty-alpha", 0.6, "--top-k", 4)
    assert asked == (0, wanted.text + "\n", "")


def test_a_folder_without_hidden_states(run: Run, folder: str) -> None:
    given = ("generate", "hello", "--model", folder, "--penalty-alpha", 0.6, "--top-k", 4)
    status, out, err = run(*given)
    assert (status, out) == (2, "")
    assert "--with-hidden-states" in err
    assert err.count("\n") == 1
