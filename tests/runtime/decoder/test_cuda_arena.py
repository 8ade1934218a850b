"""CudaArena without a device: CUDA's runtime library played by functions over main memory.

What they change has changed when it was waited for, and not before: CUDA's may be as late.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from gpt2onnx.errors import OutOfMemoryError, ProviderError
from gpt2onnx.runtime.decoder.arena import CacheShape
from gpt2onnx.runtime.decoder.cuda_arena import CudaArena, CudaArenas
from gpt2onnx.runtime.ort import cuda_runtime as cuda_library
from tests.runtime.decoder.test_kv_cache import SHAPE, CacheMachine, memory

DEVICE = 3


class Allocation:
    """An OrtValue's memory, with NaN or nonsense in it as it may come."""

    def __init__(self, shape: list[int], dtype: np.dtype[Any]) -> None:
        nonsense = np.nan if dtype.kind == "f" else np.iinfo(dtype).max
        self.array = np.full(shape, nonsense, dtype)

    def data_ptr(self) -> int:
        return self.array.ctypes.data


SESSION: Any = SimpleNamespace(device_id=DEVICE, allocate=Allocation)


class FakeLibrary:
    """Takes what CUDA's functions take, in C's types."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.locked: dict[int, Any] = {}
        self.kinds: set[int] = set()
        self.underway: list[Callable[[], object]] = []
        self.status = 0
        self.cudaGetErrorString = lambda status: b"out of memory"
        self.cudaGetLastError = lambda: 0

    def cudaSetDevice(self, device: ctypes.c_size_t) -> int:  # noqa: N802
        assert device.value == DEVICE
        self.calls.append("set")
        return self.status

    def cudaDeviceSynchronize(self) -> int:  # noqa: N802
        self.calls.append("synchronize")
        self.finish()
        return 0

    def finish(self) -> None:
        for change in self.underway:
            change()
        self.underway.clear()

    def cudaHostAlloc(self, place: Any, size: Any, flags: Any) -> int:  # noqa: N802
        assert flags.value == 1  # cudaHostAllocPortable
        memory = ctypes.create_string_buffer(size.value)
        self.locked[ctypes.addressof(memory)] = memory
        ctypes.c_void_p.from_address(place.value).value = ctypes.addressof(memory)
        return self.status

    def cudaFreeHost(self, address: Any) -> int:  # noqa: N802
        del self.locked[address.value]
        return 0

    def cudaMemset(self, address: Any, value: Any, count: Any) -> int:  # noqa: N802
        self.calls.append("clear")
        self.underway.append(partial(ctypes.memset, address.value, value.value, count.value))
        return 0

    def cudaMemcpy2D(  # noqa: N802
        self, to: Any, to_pitch: Any, by: Any, by_pitch: Any, width: Any, height: Any, kind: Any
    ) -> int:
        assert kind.value in (1, 2, 3)  # cudaMemcpyHostToDevice, DeviceToHost, DeviceToDevice
        self.kinds.add(kind.value)
        assert 0 < width.value <= min(to_pitch.value, by_pitch.value)
        self.calls.append("copy")
        for n in range(height.value):
            source, target = by.value + n * by_pitch.value, to.value + n * to_pitch.value
            self.underway.append(partial(ctypes.memmove, target, source, width.value))
        return 0


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    fake = FakeLibrary()
    monkeypatch.setattr(cuda_library, "_runtime_library", lambda: fake)
    return fake


class CudaMachine(CacheMachine):
    """The tests of the cache in main memory, with this arena."""

    @staticmethod
    def arena_class(shape: CacheShape, rows: int, capacity: int) -> CudaArena:
        return CudaArena(SESSION, shape, rows, capacity)


CudaMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestCudaArena = CudaMachine.TestCase


def test_new_memory_is_cleared() -> None:
    arena = CudaArena(SESSION, SHAPE, rows=2, capacity=5)
    for row in range(2):
        for tensor in memory(arena, row):
            assert not tensor.any()


def test_copies_are_waited_for_on_the_sessions_device(library: FakeLibrary) -> None:
    arena = CudaArena(SESSION, SHAPE, rows=2, capacity=5)
    library.calls.clear()
    arena.copy(arena, 0, 1, length=2)
    assert library.calls == ["set", *["copy"] * 2 * SHAPE.layers, "synchronize"]
    library.calls.clear()
    arena.copy(arena, 0, 1, length=0)
    assert library.calls == []


def test_moves_are_waited_for_on_the_sessions_device(library: FakeLibrary) -> None:
    arena = CudaArena(SESSION, SHAPE, rows=2, capacity=5)
    library.calls.clear()
    arena.move(1, np.array([2, 4]), start=1)
    assert library.calls == ["set", *["copy"] * 2 * 2 * SHAPE.layers, "synchronize"]


def test_blocks_go_from_and_to_the_host_and_are_waited_for(library: FakeLibrary) -> None:
    arena = CudaArena(SESSION, SHAPE, rows=2, capacity=5)
    blocks = [SHAPE.block(2), SHAPE.block(1)]
    for block in blocks:
        block[:] = np.random.default_rng(0).normal(size=block.shape)
    for use, kind, copies in (
        (lambda: arena.write(1, 1, blocks), 1, 2),
        (lambda: arena.read(1, 1, SHAPE.block(3)), 2, 1),
    ):
        library.calls.clear()
        library.kinds.clear()
        use()
        assert library.kinds == {kind}
        assert library.calls == ["set", *["copy"] * copies * 2 * SHAPE.layers, "synchronize"]
    found = SHAPE.block(3)
    arena.read(1, 1, found)
    np.testing.assert_array_equal(found, np.concatenate(blocks, axis=2))


def test_a_swap_stays_on_the_device_and_is_waited_for(library: FakeLibrary) -> None:
    arena = CudaArena(SESSION, SHAPE, rows=2, capacity=5)
    library.calls.clear()
    arena.swap(0, 1, length=2)
    assert library.calls == ["set", *["copy"] * 3 * 2 * SHAPE.layers, "synchronize"]
    assert library.kinds == {3}
    library.calls.clear()
    arena.swap(0, 1, length=0)
    assert library.calls == []


def test_an_emptied_cache_gets_its_arena_again_cleared() -> None:
    arenas = CudaArenas(SESSION)
    first = arenas(SHAPE, 2, 5)
    first._tensors[0].array[:] = np.nan
    assert arenas(SHAPE, 1, 4) is first
    assert not first._tensors[0].array.any()


def test_an_arena_that_is_too_small_is_not_given_again() -> None:
    arenas = CudaArenas(SESSION)
    first = arenas(SHAPE, 2, 5)
    longer = arenas(SHAPE, 2, 6)
    assert longer is not first
    assert arenas(SHAPE, 3, 6) is not longer


def test_a_failure_tells_cudas_reason(library: FakeLibrary) -> None:
    for status, error in ((700, ProviderError), (2, OutOfMemoryError)):
        library.status = status
        with pytest.raises(error, match=rf"cudaSetDevice failed: .* \(CUDA error {status}\)"):
            CudaArena(SESSION, SHAPE, rows=1, capacity=1)


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(cuda_library, "LIBRARIES", ("libnothing.so.1",))
    with pytest.raises(ProviderError, match=r"none of libnothing\.so\.1 can be loaded"):
        CudaArena(SESSION, SHAPE, rows=1, capacity=1)
