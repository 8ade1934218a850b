from __future__ import annotations

from pathlib import Path

import pytest

from gpt2onnx.runtime.machine.processor import FEATURES, fingerprint, processor

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


def test_nobody_is_asked_for_a_name_that_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platform.processor", lambda: pytest.fail("asks another process"))
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(OLD)
    assert processor(tmp_path).model == "Intel(R) Xeon(R) CPU E5-2680 v4"


CPU = {
    "vendor_id": "GenuineIntel",
    "cpu family": "6",
    "model": "143",
    "model name": "Xeon",
    "stepping": "8",
    "flags": "fpu avx2 avx512f",
}


def fingerprint_of(root: Path, **fields: str) -> str | None:
    file = root / "proc/cpuinfo"
    file.parent.mkdir(exist_ok=True)
    lines = [f"{name}\t: {text}\n" for name, text in (CPU | fields).items()]
    file.write_text(
        "".join(["processor\t: 0\n", *lines, "\nprocessor\t: 1\nmodel name\t: other\n"])
    )
    return fingerprint(root)


@pytest.mark.parametrize("name", CPU)
def test_the_fingerprint_changes_with_what_decides_between_kernels(
    tmp_path: Path, name: str
) -> None:
    found = fingerprint_of(tmp_path)
    assert found is not None
    assert fingerprint_of(tmp_path, **{name: "another"}) != found


def test_the_fingerprint_does_not_change_with_the_clock(tmp_path: Path) -> None:
    times = [fingerprint_of(tmp_path, **{"cpu MHz": clock}) for clock in ("1000.1", "2999.9")]
    assert times[0] == times[1] == fingerprint_of(tmp_path)


def test_no_fingerprint_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert fingerprint(tmp_path) is None
