"""Assembles a whole page."""

from __future__ import annotations

from gpt2onnx.page.frame import frame, section
from gpt2onnx.page.plot import plot
from gpt2onnx.page.run import Run
from gpt2onnx.page.table import table
from gpt2onnx.page.text import legend, text, visible
from gpt2onnx.page.tree import tree

TITLE_LENGTH = 60

_TEXT = (
    '<section><h2>Text</h2><p class="note">Each new token by its probability. Point at one, or '
    "reach it with the Tab key, for what else it could have been.</p>\n{legend}\n{text}</section>"
)
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
    body = [
        _TEXT.format(legend=legend(), text=text(run)),
        section("Entropy along the text", _LINE_KEY, plot(run.steps)),
        section("Tree of hypotheses", _TREE_KEY, tree(run.levels)),
        section("Step by step", "", table(run.steps)),
    ]
    about = [*run.about, *_figures(run)]
    title = visible(run.prompt[:TITLE_LENGTH])
    return frame(title, "A run, token by token", about, "\n".join(body))


def _figures(run: Run) -> list[tuple[str, str]]:
    figures = [("new tokens", str(len(run.steps))), ("perplexity", f"{run.perplexity:.2f}")]
    entropies = [step.entropy for step in run.steps if step.entropy is not None]
    if entropies:
        figures.append(("mean entropy", f"{sum(entropies) / len(entropies):.2f} bits"))
    return figures
