"""Weights that a session packed into files, and another one maps."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path
from typing import Any

import gpt2onnx_kernels
import numpy as np
import pytest
from graphs import Array, Operator
from test_linear import rounded_column, rounded_weight

KERNELS = gpt2onnx_kernels.kernels_here()
FILE = "tested.packed"
HEAD = 128  # bytes
KINDS = ("float", "transposed", "column", "8", "4", "8 halves", "4 halves")
X = np.random.default_rng(0).standard_normal((3, 80), dtype=np.float32)


def weights(kind: str, seed: int, out: int = 37) -> tuple[dict[str, Array], dict[str, Any]]:
    """A weight [37, 80] as `kind` has it, no multiple of 16 outputs, with its attributes."""
    weight = np.random.default_rng(seed).standard_normal((out, X.shape[1]), dtype=np.float32)
    rounded = {"activation_bits": 8}
    if kind == "column":
        stored, scales, _ = rounded_column(weight)
        return {"weight": stored, "scales": scales}, rounded
    if kind[0] in "84":
        bits = int(kind[0])
        stored, scales, _ = rounded_weight(weight, bits, 16)
        if "halves" in kind:
            scales = scales.astype(np.float16).astype(np.float32)
        return {"weight": stored, "scales": scales}, rounded | {"bits": bits, "block_size": 16}
    transposed = kind == "transposed"
    stored = weight if transposed else np.ascontiguousarray(weight.T)
    return {"weight": stored}, {"transposed": int(transposed)}


def opened(
    kind: str = "8",
    seed: int = 1,
    kernels: str = "",
    out: int = 37,
    name: str = "tested",
    **entries: str,
) -> Operator:
    inputs, attributes = weights(kind, seed, out)
    return Operator(
        "Linear",
        {"x": X, **inputs},
        frozenset(inputs),
        kernels,
        entries={f"gpt2onnx.{key}": value for key, value in entries.items()},
        name=name,
        **attributes,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of 8 bits, packed."""
    opened(pack_to=str(tmp_path))
    return tmp_path / FILE


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_mapped_gives_the_same_bits(kind: str, kernels: str, tmp_path: Path) -> None:
    """And is not packed anew: a graph with other weights of the same shape is answered so, too."""
    expected = opened(kind, kernels=kernels)()
    assert opened(kind, kernels=kernels, pack_to=str(tmp_path))().tobytes() == expected.tobytes()
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
    mapped = opened(kind, seed=2, kernels=kernels, packed=str(tmp_path))
    assert mapped().tobytes() == expected.tobytes()
    assert str(tmp_path / FILE) in Path("/proc/self/maps").read_text()
    assert opened(kind, seed=2, kernels=kernels)().tobytes() != expected.tobytes()


def test_a_file_is_its_beginning_levels_and_scales(file: Path) -> None:
    """128 bytes, [3 panels][80][16] levels and [3 panels][5 blocks][16] scales."""
    content = file.read_bytes()
    assert content.startswith(b"gpt2onnx 4\0")
    assert content[16:].startswith(KERNELS[0].encode() + b"\0")
    assert len(content) == HEAD + 3 * 80 * 16 + 3 * 5 * 16 * 4
    scales = np.frombuffer(content[HEAD + 3 * 80 * 16 :], np.float32).reshape(3, 5, 16)
    rows = scales.transpose(0, 2, 1).reshape(48, 5)
    assert rows[:37].tobytes() == weights("8", 1)[0]["scales"].tobytes()
    assert not rows[37:].any()


def packed_scales(scales: Array, folder: Path) -> bytes:
    """The scales [37, 5] of an 8-bit weight as its file has them; the run is the scalar one's."""
    inputs, attributes = weights("8", 1)
    inputs["scales"] = scales
    run = Operator("Linear", {"x": X, **inputs}, frozenset(inputs), name="other", **attributes)
    packing = {"gpt2onnx.pack_to": str(folder)}
    packed = Operator(
        "Linear", {"x": X, **inputs}, frozenset(inputs), "scalar", entries=packing, **attributes
    )
    assert packed().tobytes() == run().tobytes()
    return (folder / FILE).read_bytes()[HEAD + 3 * 80 * 16 :]


def test_scales_that_are_halves_are_kept_as_halves(tmp_path: Path) -> None:
    """numpy's float16 tells which those are: -0, both ends, and what lies between."""
    ends = np.array([0.0, -0.0, 2.0**-14, -(2.0**-14), 65504, -65504, 1 / 3], np.float16)
    halves = np.random.default_rng(0).standard_normal((37, 5)).astype(np.float16)
    halves.flat[: len(ends)] = ends
    content = packed_scales(halves.astype(np.float32), tmp_path)
    rows = np.frombuffer(content, np.float16).reshape(3, 5, 16).transpose(0, 2, 1).reshape(48, 5)
    assert rows[:37].tobytes() == halves.tobytes()


@pytest.mark.parametrize("scale", [1 / 3, 2.0**-15, 2.0**16, 65520.0, 1 + 2.0**-11, 2.0**-30])
def test_one_scale_that_is_no_whole_half_keeps_all_as_floats(scale: float, tmp_path: Path) -> None:
    scales = np.ones((37, 5), np.float32)
    scales[36, 4] = scale
    content = packed_scales(scales, tmp_path)
    rows = np.frombuffer(content, np.float32).reshape(3, 5, 16).transpose(0, 2, 1).reshape(48, 5)
    assert rows[:37].tobytes() == scales.tobytes()


def test_two_sessions_at_once_map_one_file_each_with_its_own_folder(tmp_path: Path) -> None:
    folders = [tmp_path / str(seed) for seed in range(4)]
    expected, found = {}, {}
    for seed, folder in enumerate(folders):
        folder.mkdir()
        expected[seed] = opened(seed=seed, pack_to=str(folder))().tobytes()

    def read(seed: int) -> None:
        found[seed] = opened(seed=9, packed=str(folders[seed]))().tobytes()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
    assert opened(seed=9)().tobytes() not in found.values()


def test_a_session_keeps_its_weights_when_the_file_is_removed(file: Path) -> None:
    run = opened(packed=str(file.parent))
    expected = run()
    file.unlink()
    assert run().tobytes() == expected.tobytes()


def shorter(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def longer(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def nothing(file: Path) -> None:
    file.write_bytes(b"")


def the_beginning_alone(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:HEAD])


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("change", [shorter, longer, nothing, the_beginning_alone, a_pipe])
def test_a_file_of_another_size_is_refused(file: Path, change: Any) -> None:
    change(file)
    with pytest.raises(Exception, match=r"Linear tested: .*tested\.packed has \d+ bytes, expected"):
        opened(packed=str(file.parent))


@pytest.mark.parametrize("change", [Path.unlink, a_folder])
def test_a_file_that_is_none_is_refused(file: Path, change: Any) -> None:
    change(file)
    with pytest.raises(Exception, match=r"Linear tested: .*tested\.packed"):
        opened(packed=str(file.parent))


@pytest.mark.parametrize("place", [0, 9, 16, 32, 40, 48, 56, 64, 72, 80, HEAD - 1])
def test_what_is_another_forms_is_refused(file: Path, place: int) -> None:
    """Each of the beginning's fields: version, kernels, in, out, padded, group, bits, scales
    and their bits."""
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(Exception, match=f"holds other weights, .* than {KERNELS[0]}"):
        opened(packed=str(file.parent))


def test_another_kernels_layout_is_refused(file: Path) -> None:
    with pytest.raises(Exception, match="those of other kernels than scalar"):
        opened(kernels="scalar", packed=str(file.parent))


def test_another_shape_of_as_many_bytes_is_refused(file: Path) -> None:
    with pytest.raises(Exception, match="holds other weights"):
        opened(out=38, packed=str(file.parent))


def test_what_is_there_is_not_written_over(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(Exception, match=r"tested\.packed: File exists"):
        opened(seed=2, pack_to=str(file.parent))
    assert file.read_bytes() == before


def test_no_place_to_write_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"tested\.packed: No such file"):
        opened(pack_to=str(tmp_path / "none"))


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(Exception, match=r"tested\.packed: File too large"):
            opened(pack_to=str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../other", "/tmp/other", ""])
def test_a_name_that_is_another_place_is_refused(name: str, tmp_path: Path) -> None:
    for entries in ({"pack_to": str(tmp_path)}, {"packed": str(tmp_path)}):
        with pytest.raises(Exception, match="can't have a file of this name"):
            opened(name=name, **entries)
