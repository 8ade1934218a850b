"""The frame of every page: style, sections, and pairs of facts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template


def frame(title: str, heading: str, about: Sequence[tuple[str, str]], body: str) -> str:
    """One file in UTF-8 that asks for no other. Title and body are HTML; the rest is text."""
    return Template(_read("page.html")).substitute(
        style=_read("style.css"),
        title=title,
        heading=escape(heading),
        about="".join(_fact(*pair) for pair in about),
        body=body,
    )


def section(title: str, key: str, content: str) -> str:
    """A part of the page with its heading; nothing where it has no content."""
    note = f'<p class="note">{key}</p>' if key else ""
    return f"<section><h2>{title}</h2>{note}{content}</section>" if content else ""


def _fact(name: str, value: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def _read(name: str) -> str:
    return (files("gpt2onnx.page") / name).read_text(encoding="utf-8")
