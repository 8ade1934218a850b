"""A whole page of its parts."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template

from gpt2onnx.page.plot import plot
from gpt2onnx.page.run import Run
from gpt2onnx.page.table import table
from gpt2onnx.page.text import legend, text, visible
from gpt2onnx.page.tree import tree

TITLE_LENGTH = 60

_LINE_KEY = (
    '<span class="key line">entropy: the bits that the model expected the token to tell</span>'
    '<span class="key ring">surprise: the bits that it told, \N{MINUS SIGN}log₂ of its '
    "probability</span>"
)
_TREE_KEY = (
    "From the prompt downwards, a row for each step: each token with its probability and, below "
    "it, the log-probability of the whole hypothesis. Framed: the text above. Marked: "
    "where a text ended. Grey and dashed: pruned."
)


def render(run: Run) -> str:
    """The page of a run: one file in UTF-8 that asks for no other."""
    template = Template(_read("page.html"))
    return template.substitute(
        style=_read("style.css"),
        title=visible(run.prompt[:TITLE_LENGTH]),
        about="".join(_fact(*pair) for pair in [*run.about, *_figures(run)]),
        text=text(run),
        legend=legend(),
        plot=_section("Entropy along the text", _LINE_KEY, plot(run.steps)),
        tree=_section("Tree of hypotheses", _TREE_KEY, tree(run.levels)),
        table=_section("Step by step", "", table(run.steps)),
    )


def _figures(run: Run) -> list[tuple[str, str]]:
    figures = [("new tokens", str(len(run.steps))), ("perplexity", f"{run.perplexity:.2f}")]
    entropies = [step.entropy for step in run.steps if step.entropy is not None]
    if entropies:
        figures.append(("mean entropy", f"{sum(entropies) / len(entropies):.2f} bits"))
    return figures


def _fact(name: str, value: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def _section(title: str, key: str, content: str) -> str:
    """A part of the page with its heading; nothing where it has no content."""
    note = f'<p class="note">{key}</p>' if key else ""
    return f"<section><h2>{title}</h2>{note}{content}</section>" if content else ""


def _read(name: str) -> str:
    return (files("gpt2onnx.page") / name).read_text(encoding="utf-8")
