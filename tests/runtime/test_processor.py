from __future__ import annotations

from pathlib import Path

import pytest

from gpt2onnx.runtime.processor import FEATURES, processor

INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_int8 avx512_bf16

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
OLD = "model name\t: Intel(R) Xeon(R) CPU E5-2680 v4\nflags\t\t: fpu sse2 avx2\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("text", "machine", "name", "features", "saturates"),
    [
        (
            INTEL,
            "x86_64",
            "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            {"avx2", "avx512f", "avx512_vnni", "amx_int8", "avx512_bf16"},
            False,
        ),
        (OLD, "x86_64", "Intel(R) Xeon(R) CPU E5-2680 v4", {"avx2"}, True),
        (ARM, "aarch64", "aarch64", {"asimddp", "i8mm"}, False),
        (None, "x86_64", "aarch64", set(), False),
    ],
)
def test_the_processor_is_read_from_cpuinfo(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    text: str | None,
    machine: str,
    name: str,
    features: set[str],
    saturates: bool,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.processor", lambda: "aarch64")
    if text is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(text)
    found = processor(tmp_path)
    assert found.model == name
    assert found.saturates_int8 == saturates
    assert {feature for feature, present in found.features.items() if present} == features
    if text is not None:
        assert set(found.features) == set(FEATURES[machine])
