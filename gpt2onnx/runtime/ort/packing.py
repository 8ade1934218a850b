"""How ONNX Runtime's CPU kernels pack matrices: its settings, and what they leave in a file.

Knows ONNX Runtime's names and the text of a graph that it saved; imports neither it nor onnx.
"""

from __future__ import annotations

import re
from pathlib import Path

from gpt2onnx.runtime.machine.processor import processor

# Some kernels lay a packed matrix out from the next multiple of 64 in memory. A mapped file keeps
# the address's last bits only if the matrix lies at a multiple in the file as well.
ALIGNMENT = 64
# Where in the data file a packed matrix lies, as a saved graph says it: |offset;length;checksum.
PLACE = re.compile(rb"\|(\d+);\d+;\d+")


def packing_settings() -> dict[str, str]:
    """Settings that decide how matrices are packed."""
    if processor().saturates_int8:
        # Signed weights become unsigned, with the same products: exact, and half as fast.
        return {"session.x64quantprecision": "1"}
    return {}


def saving_settings(graph: Path) -> dict[str, str]:
    """Settings that save matrices packed, in a file beside `graph`; small ones within it."""
    external = "session.optimized_model_external_initializers"
    return {
        "session.save_external_prepacked_constant_initializers": "1",
        f"{external}_file_name": f"{graph.name}.data",
        f"{external}_min_size_in_bytes": "1024",
    }


def is_aligned(graph: Path) -> bool:
    """Whether every packed matrix of a saved graph can be mapped: all lie at multiples of 64."""
    return not any(int(offset) % ALIGNMENT for offset in PLACE.findall(graph.read_bytes()))
