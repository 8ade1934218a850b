from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2onnx.compare.record.record import Record, read
from gpt2onnx.compare.report.markdown import markdown
from gpt2onnx.compare.report.page import render
from gpt2onnx.errors import ParameterError
from gpt2onnx.files import read_json

DOCS = Path(__file__).parents[3] / "docs" / "compare"
EVIL = "x|y `z` <img src=x> [a](b)\n# head &amp; _em_ a_b \\* \x1b[31m"
PLAIN = r"x\|y \`z\` \<img src=x> [a\](b)\n# head \&amp; \_em\_ a_b \\\* \x1b[31m"


@pytest.fixture
def data() -> dict[str, Any]:
    return read_json(DOCS / "compare.json", ParameterError)


def named(data: dict[str, Any], precision: str) -> Record:
    """The record with another name for every precision but the reference's, and for the model."""
    data["model"]["name"] = precision
    for each in [*data["answers"], *data["runs"], *data["crossovers"]]:
        if each["precision"] == "int8":
            each["precision"] = precision
    return read(data, "compare.json", ParameterError)


def test_the_published_report_is_up_to_date(data: dict[str, Any]) -> None:
    record = read(data, "compare.json", ParameterError)
    assert markdown(record) == (DOCS / "compare.md").read_text(encoding="utf-8")
    assert render(record) == (DOCS / "compare.html").read_text(encoding="utf-8")


def test_names_are_shown_as_they_are(data: dict[str, Any]) -> None:
    lines = markdown(named(data, EVIL)).splitlines()
    assert f"- model: {PLAIN}" in lines
    rows = [line for line in lines if line.startswith("|")]
    assert any(line.startswith(f"| cpu {PLAIN} | ") for line in rows)
    for line in rows:  # as many cells as its head has
        assert line.replace("\\|", "").count("|") >= 4
    assert "<img" not in "\n".join(lines).replace("\\<img", "")


def test_the_page_shows_them_as_they_are(data: dict[str, Any]) -> None:
    page = render(named(data, EVIL))
    assert "<img" not in page
    assert "x|y `z` &lt;img src=x&gt;" in page
