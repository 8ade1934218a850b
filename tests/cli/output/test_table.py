from __future__ import annotations

from gpt2onnx.cli.output.table import table


def test_columns_are_aligned() -> None:
    assert table([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc  d"


def test_names_that_a_terminal_would_act_on() -> None:
    rows = [("\x1b[31mred", "1"), ("two\nlines", "2"), ("\udcff", "3")]
    assert table(rows) == "\\x1b[31mred  1\ntwo\\nlines   2\n\\udcff       3"
