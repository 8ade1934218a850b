"""The CPU, and those of its features that matter to ONNX Runtime's kernels.

Knows /proc/cpuinfo; where there is none, the processor's name alone.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpt2onnx.runtime.machine.threads import ROOT

# What the int8, bf16 and int4 kernels use, as the kernel spells them in /proc/cpuinfo.
FEATURES = {
    "x86_64": ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "avx512_bf16", "amx_bf16"),
    "aarch64": ("asimddp", "i8mm", "bf16", "sve"),
}
# What decides between kernels, on x86 and on ARM; not the clock, which changes.
DECIDING = frozenset(
    {
        *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
        *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
    }
)
EXACT_INT8 = ("avx_vnni", "avx512_vnni", "amx_int8")


@dataclass(frozen=True)
class Processor:
    """A CPU's name, and its features as far as they are known."""

    model: str
    architecture: str
    features: Mapping[str, bool]

    @property
    def saturates_int8(self) -> bool:
        """Whether products of unsigned and signed bytes are summed in 16 bits, which overflow.

        So it is on x86 before VNNI: vpmaddubsw adds two products and clips the sum.
        https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html (u8s8)
        """
        known = self.architecture == "x86_64" and bool(self.features)
        return known and not any(self.features[name] for name in EXACT_INT8)


def processor(root: Path = ROOT) -> Processor:
    """The CPU as /proc/cpuinfo tells."""
    fields = _fields(root)
    flags = fields.get("flags", fields.get("Features", "")).split()
    architecture = platform.machine()
    return Processor(
        # Python asks another process for the processor's name, which takes some milliseconds.
        (fields.get("model name") or platform.processor() or "unknown").strip(),
        architecture,
        {feature: feature in flags for feature in FEATURES.get(architecture, ()) if flags},
    )


def fingerprint(root: Path = ROOT) -> str | None:
    """Changes when a kernel might choose other code; None where the system doesn't tell.

    Of the first processor: who made which model of it, and every feature, not only the known ones.
    """
    fields = _fields(root)
    told = {name: text for name, text in fields.items() if name in DECIDING}
    return hashlib.sha256(repr(sorted(told.items())).encode()).hexdigest() if told else None


def _fields(root: Path) -> dict[str, str]:
    """The first processor's fields in /proc/cpuinfo; none where there is no such file."""
    file = root / "proc/cpuinfo"
    first = file.read_text().partition("\n\n")[0] if file.is_file() else ""
    lines = (line.replace("\t", "").split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): text.strip() for name, text in lines}
