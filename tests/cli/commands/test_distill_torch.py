from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run

TEXT = "".join(chr(97 + n * n % 23) for n in range(1200))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text(TEXT)
    return path


def test_stopped_it_says_what_is_kept_and_goes_on(
    run: Run, checkpoint: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpt2onnx.smaller.distill.training import Training

    out, take_step = tmp_path / "out", Training.take_step

    def stopped(training: Training) -> float:
        if training.step == 2:
            raise KeyboardInterrupt
        return take_step(training)

    given = ("distill", checkpoint, out, "--layers", 1, "--text", text, "--no-time")
    size = ("--steps", 4, "--tokens", 32, "--window", 16)
    monkeypatch.setattr(Training, "take_step", stopped)
    status, shown, err = run(*given, *size)
    assert (status, shown) == (130, "")
    best = f"{out}.distill/best-00000000"
    assert f"gpt2onnx: stopped; the best student so far is {best}" in err
    assert "the same command with --resume goes on\n" in err
    assert "gpt2onnx: warning: the text held out: its teacher's perplexity is " in err
    monkeypatch.setattr(Training, "take_step", take_step)
    status, shown, err = run(*given, *size)
    assert status == 2
    assert "a run that isn't over; go on with it by --resume, or remove it" in err
    status, shown, err = run(*given, *size, "--resume", "--seed", 3)
    assert f"gpt2onnx: error: --seed 3: the run in {out}.distill was begun with 0; give" in err
    status, shown, err = run(*given, *size, "--resume")
    assert (status, err) == (0, "")
    assert shown.startswith(f"{out}: step ")
    assert run("export", out, tmp_path / "model", "--no-verify")[0] == 0
