"""Draw docs/architecture.svg and write the rooms into docs/architecture.md, from the code.

A room is a package or a module right under gpt2onnx; its wings are the packages in it. An arrow
means that something in the upper room imports something in the lower one. Imports that only a type
checker reads don't count, and an arrow that follows from two others isn't drawn. Modules that
import nothing but each other are one box, the foundation, on which every room may stand.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gpt2onnx"
DRAWING = ROOT / "docs" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: written by scripts/architecture.py -->", "<!-- rooms: end -->"

FOUNDATION = "foundation"
BOX, GAP, ROW, LINE = 196, 28, 52, 15  # pixels: a box's width, between boxes, between rows, a line
LINE_LENGTH = 30  # characters that fit into a box

Rooms = Mapping[str, Set[str]]  # what each room imports of the others


class Place(NamedTuple):
    """Where a box is, in pixels."""

    x: int
    y: int
    width: int
    height: int


def rooms() -> dict[str, set[str]]:
    """Every room and the rooms that it imports; the package's own public names are none."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room not in ("__init__", "__main__"):
            others = found.setdefault(room, set())
            others |= {name.split(".")[1] for name in imported(path) if name.count(".")} - {room}
    return {room: others & found.keys() for room, others in found.items()}


def imported(path: Path) -> Iterator[str]:
    """The dotted names of ours that a module imports, at its top or in a function."""
    package = path.relative_to(ROOT).parent.parts
    for node in running(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.startswith("gpt2onnx."))


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from running(node)


def foundation(graph: Rooms) -> set[str]:
    """The modules, no packages, that import none but each other."""
    found: set[str] = set()
    for room in TopologicalSorter(graph).static_order():
        if (PACKAGE / f"{room}.py").exists() and graph[room] <= found:
            found.add(room)
    return found


def above(graph: Rooms, base: Set[str]) -> dict[str, set[str]]:
    """The graph without the foundation, and without arrows that follow from others."""
    upper = {room: set(others - base) for room, others in graph.items() if room not in base}
    return {
        room: {o for o in others if not any(o in reached(upper, via) for via in others - {o})}
        for room, others in upper.items()
    }


def reached(graph: Rooms, room: str) -> set[str]:
    """All rooms below one."""
    return set(graph[room]).union(*(reached(graph, other) for other in graph[room]))


def levels(graph: Rooms) -> list[list[str]]:
    """The rooms in rows: each right below the last that imports it, and those without any last."""
    order = list(TopologicalSorter(graph).static_order())[::-1]
    depth = dict.fromkeys(order, 0)
    for room in order:
        for other in graph[room]:
            depth[other] = max(depth[other], depth[room] + 1)
    last = max(depth.values())
    depth |= {room: last for room in graph if not graph[room]}
    return [sorted(room for room in graph if depth[room] == d) for d in range(last + 1)]


def wings(room: str) -> list[Path]:
    """The packages in a room."""
    return sorted(path.parent for path in (PACKAGE / room).glob("*/__init__.py"))


def sentence(path: Path) -> str:
    """The first sentence of a module's or a package's docstring."""
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def drawing() -> str:
    graph = rooms()
    base = foundation(graph)
    arrows = above(graph, base)
    rows = levels(arrows)
    texts = {room: [wing.name for wing in wings(room)] for room in arrows}
    width = GAP + max(map(len, rows)) * (BOX + GAP)
    places: dict[str, Place] = {}
    y = GAP
    for row in rows:
        size = LINE * max(2 + len(lines(texts[room], BOX)) for room in row)
        for room, x in zip(row, across(row, arrows, places, width), strict=True):
            places[room] = Place(x, y, BOX, LINE * (2 + len(lines(texts[room], BOX))))
        y += size + ROW
    ground = Place(GAP, y, width - 2 * GAP, LINE * 3)
    height = y + ground.height + GAP
    curves = [curve(places[a], places[b]) for a in arrows for b in sorted(arrows[a])]
    boxes = [box(room, texts[room], place) for room, place in places.items()]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="12">',
            "<title>The rooms of gpt2onnx</title>",
            '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" '
            'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#667"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *curves,
            *boxes,
            box(FOUNDATION, sorted(base), ground),
            "</svg>\n",
        ]
    )


def across(row: list[str], arrows: Rooms, places: Mapping[str, Place], width: int) -> list[int]:
    """Where each box of a row begins: below those that import it, and beside its neighbours."""
    if len(row) * (BOX + GAP) + GAP == width:
        return [GAP + i * (BOX + GAP) for i in range(len(row))]
    found: list[int] = []
    for i, room in enumerate(row):
        over = [place.x for name, place in places.items() if room in arrows[name]]
        wanted = round(sum(over) / len(over)) if over else (width - BOX) // 2
        least = found[-1] + BOX + GAP if found else GAP
        most = width - (len(row) - i) * (BOX + GAP)
        found.append(max(least, min(wanted, most)))
    return found


def lines(words: list[str], width: float) -> list[str]:
    """Words in lines that fit into a box of this width."""
    longest = LINE_LENGTH * width / BOX
    found: list[str] = []
    for word in words:
        if found and len(found[-1]) + len(word) + 3 <= longest:
            found[-1] += f" · {word}"
        else:
            found.append(word)
    return found


def curve(upper: Place, lower: Place) -> str:
    """An arrow from one box down to another: straight down first, then across."""
    x1, y1 = upper.x + upper.width // 2, upper.y + upper.height
    x2, y2 = lower.x + lower.width // 2, lower.y
    bend = max(y1 + ROW // 8, y2 - ROW - LINE)
    middle = (bend + y2) // 2
    return (
        f'<path d="M{x1},{y1} L{x1},{bend} C{x1},{middle} {x2},{middle} {x2},{y2 - 1}" '
        'fill="none" stroke="#667" marker-end="url(#head)"/>'
    )


def box(room: str, words: list[str], place: Place) -> str:
    color = "#e6e6ee" if room == FOUNDATION else "#e3f1e3" if words else "#fff6dd"
    middle = place.x + place.width // 2
    texts = [
        f'<text x="{middle}" y="{place.y + round(LINE * (2.2 + i))}" text-anchor="middle" '
        f'fill="#445">{escape(line)}</text>'
        for i, line in enumerate(lines(words, place.width))
    ]
    return "\n".join(
        [
            f'<rect x="{place.x}" y="{place.y}" width="{place.width}" height="{place.height}" '
            f'rx="6" fill="{color}" stroke="#889"/>',
            f'<text x="{middle}" y="{place.y + round(LINE * 1.2)}" text-anchor="middle" '
            f'font-weight="bold" fill="#223">{escape(room)}</text>',
            *texts,
        ]
    )


def listing() -> str:
    """The rooms from the top, each with its wings, in Markdown."""
    graph = rooms()
    base = foundation(graph)
    order = [room for row in levels(above(graph, base)) for room in row]
    table = ["| room | |", "| --- | --- |"]
    for room in [*order, *sorted(base)]:
        table.append(f"| **{room}** | {sentence(PACKAGE / room)} |")
        table += [f"| {room}/{wing.name} | {sentence(wing)} |" for wing in wings(room)]
    return "\n".join(table)


def page(text: str) -> str:
    """A page with the listing between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{listing()}\n\n{END}{after}"


if __name__ == "__main__":
    DRAWING.write_text(drawing(), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
