"""The bundled draft: a student of the target, made as `gpt2onnx distill` makes any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpt2onnx.cli.output.bar import Bars
from gpt2onnx.smaller.distill.distill import Distilled, distill
from training.corpus import Corpus

# distill's own parameters. Half as wide, it would cost as much a step: of so small a model most is
# overhead.
DRAFT: dict[str, Any] = {
    "layers": 2,
    "width": 128,
    "samples": 6000,
    "greedy": True,
    "text_share": 1.0,
    "steps": 4000,
    "learning_rate": 3e-3,
}


def make_draft(target: Path, out: Path, corpus: Corpus, seed: int, steps: int) -> Distilled:
    """The checkpoint `out`, which learns what the target writes behind the corpus' documents."""
    with Bars() as bars:
        return distill(
            target,
            out,
            texts=[document.text for document in corpus.training],
            held_out=[document.text for document in corpus.held_out],
            seed=seed,
            progress=bars,
            time_it=False,
            **{**DRAFT, "steps": steps},
        )
