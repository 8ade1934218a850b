"""bench.json as a picture: python picture.py bench.json bench.svg. Needs matplotlib alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

PANELS = (
    ("decode_32_ms", "decode at 32, ms a token"),
    ("decode_512_ms", "decode at 512, ms a token"),
    ("prompt_512_ms", "prompt of 512, ms"),
    ("batch_8_tokens_per_s", "batch of 8, tokens a second"),
    ("first_token_s", "start to first token, s"),
    ("resident_mb", "resident while generating, MB"),
)
OURS, OTHERS = "#0b6e4f", "#9aa5b1"
# Without it the same figures would give other bytes each time.
mpl.rcParams["svg.hashsalt"] = "bench"


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    found = json.loads(source.read_text(encoding="utf-8"))
    variants = [variant for variant in found["variants"] if not variant["left_out"]]
    height = 0.6 + 0.22 * len(variants)
    figure = Figure(figsize=(14, 3 * height + 0.6), layout="constrained")
    for axes, panel in zip(figure.subplots(3, 2).flat, PANELS, strict=True):
        draw(axes, variants, *panel)
    figure.suptitle(
        f"{found['machine']['processor']}, {found['settings']['threads']} threads; "
        "in brackets the share of top tokens that are the reference's"
    )
    figure.savefig(target, metadata={"Date": None})


def draw(axes: Any, variants: list[dict[str, Any]], name: str, title: str) -> None:
    """One panel: the best on top, ours in colour."""
    known = [variant for variant in variants if name in variant["figures"]]
    known.sort(key=lambda variant: variant["figures"][name]["median"])
    if name.endswith("_per_s"):
        known.reverse()
    values = [variant["figures"][name]["median"] for variant in known]
    colours = [OURS if variant["ours"] else OTHERS for variant in known]
    bars = axes.barh([variant["name"] for variant in known], values, color=colours)
    axes.bar_label(bars, [label(variant["figures"][name]) for variant in known], padding=3)
    axes.invert_yaxis()
    axes.set_title(title, loc="left")
    axes.set_xlim(0, 1.3 * max(values, default=1))  # room for what stands behind a bar
    axes.spines[["top", "right"]].set_visible(False)


def label(measured: dict[str, Any]) -> str:
    agreement = measured["agreement"]
    least = "≥ " if agreement and agreement["at_least"] else ""
    beside = f" ({least}{agreement['top1']:.0%})" if agreement else ""
    value = measured["median"]
    return f"{value:,.0f}{beside}" if value >= 100 else f"{value:.3g}{beside}"


if __name__ == "__main__":
    main()
