"""bench.json as Markdown: the machine, the table, the ratios, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Variant = dict[str, Any]

# Heading, figure, format. Where rows of tokens were written, agreement stands beside the figure.
COLUMNS = (
    ("decode at 32, ms", "decode_32_ms", ".2f"),
    ("at 512", "decode_512_ms", ".2f"),
    ("at 900", "decode_900_ms", ".2f"),
    ("prompt of 512, ms", "prompt_512_ms", ".0f"),
    ("batch of 8, tokens/s", "batch_8_tokens_per_s", ".0f"),
    ("of 32", "batch_32_tokens_per_s", ".0f"),
    ("load, s", "load_s", ".2f"),
    ("first token, s", "first_token_s", ".2f"),
    ("resident, MB", "resident_mb", ".0f"),
    ("of it not files, MB", "anonymous_mb", ".0f"),
    ("peak, MB", "peak_mb", ".0f"),
    ("installed, MB", "installed_mb", ".0f"),
    ("model, MB", "model_mb", ".0f"),
    ("greedy tokens equal, of 64", "greedy_equal", ".0f"),
    ("top-1", "top1", ".1%"),
    ("logits, at most", "max_logit_difference", ".2g"),
)
BEGIN = "<!-- scripts/bench begins -->"
END = "<!-- scripts/bench ends -->"
NOTHING = ""


def markdown(found: dict[str, Any]) -> str:
    """Everything that a reader needs to judge the figures by."""
    ran = [variant for variant in found["variants"] if not variant["left_out"]]
    parts = [about(found), main_table(ran), bars_table(found["bars"]), choices(ran), gaps(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def about(found: dict[str, Any]) -> str:
    machine, shape, settings = found["machine"], found["checkpoint"], found["settings"]
    features = f" ({', '.join(machine['features'])})" if machine["features"] else ""
    return (
        f"{machine['cores']} cores of {machine['processor']}{features}, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}; {settings['threads']} threads an "
        f"engine. GPT-2 of {shape['n_layer']} layers, {shape['n_embd']} wide, vocabulary "
        f"{shape['vocab_size']}. {settings['started'][:10]}, medians of {settings['rounds']} "
        f"interleaved rounds{', --quick' if settings['quick'] else ''}, {settings['seconds']} s in "
        f"all, begun at a load of {settings['load_before']:.1f}. Agreement is "
        f"with {found['reference'] or 'nothing: no fp32 engine ran'}."
    )


def main_table(variants: Sequence[Variant]) -> str:
    headings = ["", *(heading for heading, _, _ in COLUMNS)]
    rows = [
        [
            bold(variant["name"]) if variant["ours"] else variant["name"],
            *(cell(variant, figure, form) for _, figure, form in COLUMNS),
        ]
        for variant in variants
    ]
    return table(headings, rows)


def cell(variant: Variant, figure: str, form: str) -> str:
    """A figure, and where there is one its agreement in brackets."""
    if figure not in variant["figures"]:
        return NOTHING
    measured = variant["figures"][figure]
    text = f"{measured['median']:{form}}"
    agreement = measured["agreement"]
    if agreement is None:
        return text
    return f"{text} ({'≥ ' if agreement['at_least'] else ''}{agreement['top1']:.0%})"


def bars_table(bars: Sequence[dict[str, Any]]) -> str:
    """What both sides of were measured."""
    headings = ["", "ours", "the best other", "ratio", "to reach", "reached"]
    rows = [
        [
            bar["name"],
            bar["ours"],
            bar["best_other"],
            f"{bar['ratio']:.2f}",
            goal(bar),
            {True: "yes", False: "no", None: NOTHING}[bar["met"]],
        ]
        for bar in bars
        if bar["ratio"]
    ]
    return table(headings, rows)


def goal(bar: dict[str, Any]) -> str:
    if bar["limit"] is not None:
        found = "" if bar["value"] is None else f": {bar['value']:.0f}"
        return f"at most {bar['limit']:.0f}{found}"
    return NOTHING if bar["goal"] is None else str(bar["goal"])


def choices(variants: Sequence[Variant]) -> str:
    """Versions, and what engines chose by themselves."""
    lines = []
    for variant in variants:
        settings = "; ".join(f"{name}: {value}" for name, value in variant["settings"].items())
        versions = ", ".join(variant["requirements"])
        lines.append(f"- {variant['name']}: {versions}{f'. {settings}' if settings else ''}")
    return "\n".join(lines)


def gaps(found: dict[str, Any]) -> str:
    """What wasn't run, and what is empty, with the reason."""
    lines = []
    for variant in found["variants"]:
        if variant["left_out"]:
            lines.append(f"- left out: {variant['name']}: {variant['left_out']}")
        lines += [
            f"- {variant['name']} has no {figure}: {why}"
            for figure, why in variant["missing"].items()
        ]
    return "\n".join(lines)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bold(text: str) -> str:
    return f"**{text}**"


def write_between_markers(file: Path, text: str) -> None:
    """Replace what stands between BEGIN and END. Raises ValueError where they aren't there."""
    before, after = split_at_markers(file)
    file.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def split_at_markers(file: Path) -> tuple[str, str]:
    """What stands before BEGIN and behind END. Raises ValueError where they aren't there."""
    whole = file.read_text(encoding="utf-8") if file.is_file() else ""
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{file}: expected a file with the lines {BEGIN} and {END}")
    return before, after
