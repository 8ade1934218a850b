"""The tree of a beam search: a row of nodes for each step, and lines from each to its parent."""

from __future__ import annotations

from collections.abc import Sequence

from gpt2onnx.page.run import Node
from gpt2onnx.page.text import level, percent, visible

# The lines' own units: they are stretched to the width of the row.
SPAN, DROP = 1000, 24


def tree(levels: Sequence[Sequence[Node]]) -> str:
    """From the prompt downwards; nothing for no levels."""
    if not levels:
        return ""
    widest = max(map(len, levels))
    above, rows = 1, []
    for number, nodes in enumerate(levels, 1):
        rows.append(_level(number, nodes, above))
        above = len(nodes)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="tree of hypotheses">'
        f'<div class="tree" style="min-width:{widest * 5.6 + 2.5:.1f}rem">'
        f'<div class="root"><span>prompt</span></div>{"".join(rows)}</div></div>'
    )


def _level(number: int, nodes: Sequence[Node], above: int) -> str:
    # What is drawn last lies on top.
    order = sorted(range(len(nodes)), key=lambda place: _weight(nodes[place]))
    lines = "".join(_line(nodes[place], place, len(nodes), above) for place in order)
    items = "".join(map(_node, nodes))
    return (
        f'<div class="level"><svg viewBox="0 0 {SPAN} {DROP}" preserveAspectRatio="none" '
        f'aria-hidden="true">{lines}</svg><span class="number">{number}</span>'
        f'<ul aria-label="step {number}">{items}</ul></div>'
    )


def _weight(node: Node) -> int:
    return 2 if node.best else int(node.fate != "pruned")


def _line(node: Node, place: int, count: int, above: int) -> str:
    start, end = SPAN * (node.parent + 0.5) / above, SPAN * (place + 0.5) / count
    path = f"M{start:.1f},0 C{start:.1f},{DROP / 2} {end:.1f},{DROP / 2} {end:.1f},{DROP}"
    return f'<path class="{_classes(node)}" d="{path}"/>'


def _node(node: Node) -> str:
    colour = "" if node.fate == "pruned" else f" p{level(node.probability)}"
    end = ' <span class="mark">end</span>' if node.fate == "finished" else ""
    fate = f"{node.fate}, of the text above" if node.best else node.fate
    title = (
        f"{visible(node.text)} {percent(node.probability)}, {fate}\n"
        f"log-probability of the whole hypothesis: {node.score:.3f}"
    )
    return (
        f'<li class="{_classes(node)}{colour}" title="{title}"><code>{visible(node.text)}</code>'
        f"{end}<span>{percent(node.probability)}</span>"
        f"<small>{_minus(node.score)}</small></li>"
    )


def _classes(node: Node) -> str:
    return f"{node.fate} best" if node.best else node.fate


def _minus(score: float) -> str:
    return f"{score:.2f}".replace("-", "\N{MINUS SIGN}")
