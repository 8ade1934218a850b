from __future__ import annotations

import io
import sys

import pytest

from gpt2onnx.cli.bar import LENGTH, bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_how_far_it_is_and_nothing_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    assert list(bar(["one", "two"], 2)) == ["one", "two"]
    first, second, last = shown.getvalue().split("\r\x1b[K")[1:]
    assert first == "·" * LENGTH + " 0/2 one"
    assert second == "█" * (LENGTH // 2) + "·" * (LENGTH // 2) + " 1/2 two"
    assert last == ""


def test_a_file_sees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(bar(["one"], 1)) == ["one"]
    assert capsys.readouterr().err == ""
