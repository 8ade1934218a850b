"""A padded batch in other runtimes' layouts beside transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_padded_batch_gives_each_rows_own_logits(
    precision: str, side: str, exported: Callable[..., Path]
) -> None:
    from tests.export.graph.test_portable_torch import padded_batch_is_right

    padded_batch_is_right(exported("genai", precision), precision, side)
