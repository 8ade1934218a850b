"""README.md of a model folder: what it is, how to run it, how accurate it is.

Knows what was exported; writes text and nothing else.
"""

from __future__ import annotations

import re

from gpt2onnx.errors import CheckpointError
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint
from gpt2onnx.export.runtimes.snippets import SNIPPETS
from gpt2onnx.export.runtimes.targets import Place, js_dtype
from gpt2onnx.export.verification.verify import Verification
from gpt2onnx.files import read_text, unicode_name

GRAPHS = {
    "fused": "ONNX Runtime's own operators, the cache appended to in place",
    "masked": "ONNX Runtime's own operators, with Optimum's inputs and outputs",
    "portable": "standard ONNX operators, with Optimum's inputs and outputs",
}
# What a model card on the hub says between its first two lines of dashes.
LICENSE = re.compile(r"\A---\r?\n(?:(?!---).*\n)*?license:[ \t]*([\w.-]+)[ \t]*\r?$", re.MULTILINE)


def readme(
    runtime: str,
    checkpoint: Checkpoint,
    place: Place,
    verification: Verification | None,
) -> str:
    """The text of one folder, wherever it will lie."""
    before, language, code = SNIPPETS[runtime]
    code = code.replace("DTYPE", js_dtype(place.precision))
    quality = f"{verification}" if verification else "not compared with PyTorch"
    source = unicode_name(checkpoint.source)
    revision = f", revision {checkpoint.revision}" if checkpoint.revision else ""
    adapters = "".join(
        f"| adapter | {unicode_name(a.name)}, sha256 {a.sha256} |\n" for a in checkpoint.adapters
    )
    return f"""\
# GPT-2 for {runtime}

An ONNX model with its tokenizer and settings, exported by gpt2onnx.

{before}

```{language}
{code}```

| | |
| --- | --- |
| graph | `{place.file}`: {GRAPHS[place.graph]} |
| precision | {place.precision} |
| quality | {quality} |
| source | {source}{revision} |
{adapters}| license | {license_of(checkpoint)} |
"""


def license_of(checkpoint: Checkpoint) -> str:
    """What the checkpoint's README.md says, as model cards do."""
    card = checkpoint.folder / "README.md"
    try:
        found = LICENSE.search(read_text(card, CheckpointError)) if card.is_file() else None
    except CheckpointError:  # no model card, whatever it is
        found = None
    return found[1] if found else "not stated in the checkpoint; see its source"
