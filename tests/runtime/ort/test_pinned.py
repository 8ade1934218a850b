"""Arrays in page-locked memory, over a stand-in for CUDA's library that counts what is locked."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from gpt2onnx.errors import OutOfMemoryError, ProviderError
from gpt2onnx.runtime.ort import cuda_runtime
from gpt2onnx.runtime.ort import pinned as pinned_module
from gpt2onnx.runtime.ort.cuda_runtime import CudaLibrary
from gpt2onnx.runtime.ort.pinned import LEAST, PinnedMemory, pinned
from tests.runtime.decoder.test_cuda_arena import DEVICE, FakeLibrary

SIZE = LEAST // 4  # of float32


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    fake = FakeLibrary()
    monkeypatch.setattr(cuda_runtime, "_runtime_library", lambda: fake)
    return fake


@pytest.fixture
def memory(library: FakeLibrary) -> PinnedMemory:
    return PinnedMemory(CudaLibrary(DEVICE))


def test_an_array_is_in_locked_memory(memory: PinnedMemory, library: FakeLibrary) -> None:
    array = memory.empty((2, SIZE), np.float32)
    assert (array.shape, array.dtype) == ((2, SIZE), np.float32)
    assert array.ctypes.data in library.locked
    assert array.flags.c_contiguous
    assert array.flags.writeable
    array[:] = 3
    assert array.sum() == 6 * SIZE


def test_arrays_that_are_kept_share_nothing(memory: PinnedMemory) -> None:
    first, second = (memory.empty((SIZE,), np.float32) for _ in range(2))
    assert not np.shares_memory(first, second)


def test_a_block_is_given_out_again_when_nothing_is_in_it(
    memory: PinnedMemory, library: FakeLibrary
) -> None:
    array = memory.empty((2 * SIZE,), np.float32)
    view, address = array[5:], array.ctypes.data
    del array
    gc.collect()
    assert memory.empty((2 * SIZE,), np.float32).ctypes.data != address  # the view is still there
    assert len(library.locked) == 2
    del view
    gc.collect()
    # Another type and shape of the same power of two of bytes.
    again = [memory.empty((SIZE - 7,), np.int64) for _ in range(2)]
    assert address in {array.ctypes.data for array in again}
    assert len(library.locked) == 2


def test_small_arrays_are_not_locked(memory: PinnedMemory, library: FakeLibrary) -> None:
    assert memory.empty((SIZE - 1,), np.float32).nbytes < LEAST
    assert not library.locked


def test_so_much_is_locked_and_no_more(
    memory: PinnedMemory, library: FakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinned_module, "MOST", 3 * LEAST)
    kept = [memory.empty((SIZE,), np.float32) for _ in range(5)]
    assert [array.ctypes.data in library.locked for array in kept] == 3 * [True] + 2 * [False]


def test_free_blocks_make_room_for_another_size(
    memory: PinnedMemory, library: FakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinned_module, "MOST", 4 * LEAST)
    whole = memory.empty((4 * SIZE,), np.float32)
    assert memory.empty((SIZE,), np.float32).ctypes.data not in library.locked
    del whole
    gc.collect()
    kept = [memory.empty((SIZE,), np.float32) for _ in range(5)]
    assert [array.ctypes.data in library.locked for array in kept] == 4 * [True] + [False]
    assert len(library.locked) == 4


def test_all_is_unlocked_in_the_end(memory: PinnedMemory, library: FakeLibrary) -> None:
    cuda = CudaLibrary(DEVICE)
    own = PinnedMemory(cuda)
    kept = own.empty((SIZE,), np.float32)
    own.empty((4 * SIZE,), np.float32)
    assert len(library.locked) == 2
    del own
    gc.collect()
    kept[:] = 1  # an array outlives what gave it
    assert [*library.locked] == [kept.ctypes.data]
    del kept
    gc.collect()
    assert not library.locked


def test_a_single_array_is_locked_whatever_its_size(library: FakeLibrary) -> None:
    array = pinned(CudaLibrary(DEVICE), (3, 5), np.int64)
    assert array.shape == (3, 5)
    assert [*library.locked] == [array.ctypes.data]
    del array
    gc.collect()
    assert not library.locked


def test_where_nothing_more_can_be_locked(memory: PinnedMemory, library: FakeLibrary) -> None:
    """Callers get other memory; what kernels write to has to be locked."""
    library.status = 2  # cudaErrorMemoryAllocation
    assert memory.empty((SIZE,), np.float32).shape == (SIZE,)
    with pytest.raises(OutOfMemoryError, match="out of memory"):
        pinned(CudaLibrary(DEVICE), (SIZE,), np.float32)
    library.status = 700
    with pytest.raises(ProviderError, match="CUDA error 700"):
        memory.empty((SIZE,), np.float32)
