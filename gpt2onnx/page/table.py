"""Every step's figures as a table, for print and for readers without colours."""

from __future__ import annotations

from collections.abc import Sequence

from gpt2onnx.page.run import Step
from gpt2onnx.page.text import level, percent, visible


def table(steps: Sequence[Step]) -> str:
    rows = "".join(_row(number, step) for number, step in enumerate(steps, 1))
    return (
        '<table><thead><tr><th scope="col">step</th><th scope="col">token</th>'
        '<th scope="col">probability</th><th scope="col">entropy</th>'
        f'<th scope="col">others</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _row(number: int, step: Step) -> str:
    others = " ".join(
        f"<span><code>{visible(other.text)}</code> {percent(other.probability)}</span>"
        for other in step.others
    )
    entropy = "" if step.entropy is None else f"{step.entropy:.2f}"
    return (
        f'<tr><th scope="row">{number}</th>'
        f'<td><code class="t p{level(step.probability)}">{visible(step.text)}</code></td>'
        f"<td>{percent(step.probability)}</td><td>{entropy}</td>"
        f'<td class="others">{others}</td></tr>'
    )
