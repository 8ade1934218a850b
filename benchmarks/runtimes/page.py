"""docs/runtimes.md, of what was measured."""

from __future__ import annotations

from datetime import UTC, datetime
from textwrap import fill

from benchmarks.machine import load, machine
from benchmarks.markdown_table import table
from benchmarks.runtimes.measure import FEW, USUAL, Figures
from benchmarks.runtimes.rows import Row

Cells = dict[tuple[str, str], Figures | str]
BATCH = f"batch {USUAL.batch}"
HEAD = (
    *("graph", "precision", "tokens", "top-1", "prompt, ms", "step, ms", "memory, MB"),
    f"{BATCH}, tokens/s",
)


def page(found: list[tuple[Row, Cells]], threads: int) -> str:
    here = machine()
    parts = [_section(row, cells) for row, cells in found]
    return f"""\
# What runs where

Each runtime on each graph of `gpt2onnx export`, in each precision, by `scripts/runtimes`;
[other runtimes](other-runtimes.md) says which folder to give to whom. `gpt2onnx compare --runtimes`
measures a model of yours [in the same way](cpu-or-gpu.md#on-other-runtimes).

- **tokens**: what it writes greedily behind {USUAL.prompts} prompts, {USUAL.tokens} each, beside
  what gpt2onnx itself writes in that precision. Right: all of them. A near-tie: where a text parts,
  gpt2onnx gives the other token at least half of its own token's probability. The slowest write
  {FEW.tokens} behind {FEW.prompts} prompts, and are timed behind {FEW.context}.
- **top-1**: how often its most likely token is gpt2onnx's, along the whole of gpt2onnx's texts.
- **prompt, step**: milliseconds of {USUAL.context} tokens, and the median of {USUAL.steps} steps
  behind them, in a process of its own with {threads} thread{"s" * (threads > 1)}, once warmed up.
- **memory**: resident, when all was written; of the browser, the page's process.
- **{BATCH}**: tokens a second of so many texts together, by as many steps behind prompts of
  {USUAL.context}. The last text must be what is written of it alone, near-ties apart. The slowest
  aren't asked.

The bundled model, {here["processor"]}, {here["cores"]} cores, {here["system"]};
{datetime.now(UTC):%Y-%m-%d}, measured once, at a load of {load():.0f} when it ended. Where that is
above the cores, others used the machine, and times say little: tokens are what counts here.

{chr(10).join(parts)}"""


def _section(row: Row, cells: Cells) -> str:
    versions = {each.version for each in cells.values() if isinstance(each, Figures)}
    name = " ".join([row.title, *sorted(versions)]) if versions else row.title
    shown = [(graph, precision, *_cell(each)) for (graph, precision), each in cells.items()]
    refused = [
        (what, precision, reason)
        for (graph, precision), each in cells.items()
        for what, reason in _refusals(graph, each)
    ]
    reasons = "".join(
        _item(f"- {what}, {', '.join(precisions)}: {reason}")
        for (what, reason), precisions in _grouped(refused).items()
    )
    return f"## {name}\n\n{table(HEAD, shown)}\n{chr(10) + reasons if reasons else ''}"


def _refusals(graph: str, cell: Figures | str) -> list[tuple[str, str]]:
    """What a cell couldn't do, and why."""
    if isinstance(cell, str):
        return [(graph, cell)]
    batch = cell.batch_tokens_s
    return [(f"{graph} at {BATCH}", batch)] if isinstance(batch, str) else []


def _item(line: str) -> str:
    """A line of a list, wrapped as prose is; code may go on in the next line."""
    options = {"break_long_words": False, "break_on_hyphens": False}
    return fill(line, 100, subsequent_indent="  ", **options) + "\n"


def _grouped(refused: list[tuple[str, str, str]]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for what, precision, reason in refused:
        found.setdefault((what, f"`{reason.replace('`', chr(39))}`"), []).append(precision)
    return found


def _cell(each: Figures | str) -> tuple[str, ...]:
    if isinstance(each, str):
        return ("can't run it", "", "", "", "", "")
    return (
        _verdict(each),
        "" if each.top1 is None else f"{each.top1:.1%}",
        f"{each.prompt_ms:.1f}",
        f"{each.step_ms:.2f}",
        "" if each.memory_mb is None else f"{each.memory_mb:.0f}",
        _batch(each.batch_tokens_s),
    )


def _batch(speed: float | str | None) -> str:
    if isinstance(speed, str):
        return "can't"
    return "" if speed is None else f"{speed:.0f}"


def _verdict(each: Figures) -> str:
    if not each.parted:
        return "right"
    if each.near_ties == each.parted:
        return f"right but for {each.parted} near-tie{'s' * (each.parted > 1)}"
    return f"{each.equal} of {each.written}, then other ones"
