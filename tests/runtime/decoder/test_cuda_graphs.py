"""Steps as CUDA graphs without a device: main memory for its memory, and a recorder that replays.

What is captured is played by a session on the CPU, which is given the addresses, shapes and host's
numbers of the capture again, whatever was bound since: what went stale shows in the logits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.decoder.protocol import Read
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.ort import cuda_runtime as cuda_library
from gpt2onnx.runtime.ort.provider import CUDA
from gpt2onnx.runtime.ort.session import NO_GRAPH, Session, open_session
from tests.runtime.decoder.test_cuda_arena import DEVICE, Allocation, FakeLibrary

IDS = np.random.default_rng(1).integers(0, 257, 300)
# ONNX Runtime's runs of a new graph: two to allocate, one that is captured, and its replay.
RUNS_OF_A_NEW_GRAPH = 4


class Recorder:
    """An IOBinding: what it was told."""

    def __init__(self) -> None:
        self.inputs: dict[str, tuple[Any, ...]] = {}
        self.outputs: dict[str, tuple[Any, ...]] = {}
        self.host: dict[str, np.ndarray] = {}

    def bind_input(self, name: str, device: str, number: int, *place: Any) -> None:
        assert (device, number) == ("cuda", DEVICE)
        self.inputs[name] = place

    def bind_output(self, name: str, device: str, number: int, *place: Any) -> None:
        self.outputs[name] = place
        assert (device, number) in (("cuda", DEVICE), ("cpu", 0))

    def bind_cpu_input(self, name: str, value: np.ndarray) -> None:
        self.host[name] = value

    def snapshot(self) -> Recorder:
        copy = Recorder()
        copy.inputs, copy.outputs = dict(self.inputs), dict(self.outputs)
        copy.host = {name: value.copy() for name, value in self.host.items()}
        return copy


class Replayer:
    """An InferenceSession on a device whose memory is the host's."""

    def __init__(self, cpu: Any) -> None:
        self.cpu = cpu
        self.captured: dict[int, Recorder] = {}
        self.runs: list[int] = []
        self.released: list[int] = []

    def io_binding(self) -> Recorder:
        return Recorder()

    def run_with_iobinding(self, binding: Recorder, options: Any) -> None:
        library().calls.append("run")
        graph = int(options.get_run_config_entry("gpu_graph_id"))
        self.runs.append(graph)
        repeats = 1
        if graph != NO_GRAPH:
            if graph not in self.captured:
                self.captured[graph] = binding.snapshot()
                repeats = RUNS_OF_A_NEW_GRAPH
            binding = self.captured[graph]
        for _ in range(repeats):
            self._run(binding)

    def release_captured_graph(self, graph: int) -> None:
        self.released.append(graph)
        del self.captured[graph]

    def _run(self, told: Recorder) -> None:
        binding = self.cpu.io_binding()
        for name, place in told.inputs.items():
            binding.bind_input(name, "cpu", 0, *place)
        for name, place in told.outputs.items():
            binding.bind_output(name, "cpu", 0, *place)
        for name, value in told.host.items():
            binding.bind_cpu_input(name, value)
        self.cpu.run_with_iobinding(binding)


class DeviceSession(Session):
    """A session on the stand-in's device."""

    def allocate(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        return Allocation(list(shape), dtype)


class CopyingLibrary(FakeLibrary):
    def cudaMemcpy(self, to: Any, by: Any, count: Any, kind: Any) -> int:  # noqa: N802
        if kind.value == 1:  # cudaMemcpyHostToDevice: it may come from a copy that CUDA has made
            self.calls.append("write")
            held = ctypes.string_at(by.value, count.value)
            self.underway.append(partial(ctypes.memmove, to.value, held, count.value))
        else:  # cudaMemcpyDeviceToHost: over when CUDA returns
            assert kind.value == 2
            self.calls.append("read")
            self.finish()
            ctypes.memmove(to.value, by.value, count.value)
        return 0


def library() -> CopyingLibrary:
    fake: Any = cuda_library._runtime_library()
    return fake


@pytest.fixture(autouse=True)
def _library(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = CopyingLibrary()
    monkeypatch.setattr(cuda_library, "_runtime_library", lambda: fake)


@pytest.fixture
def plain(wide_models: Callable[[str], Path]) -> FusedDecoder:
    """The decoder on the CPU, which captures nothing."""
    folder = open_folder(wide_models("fp32"))
    return FusedDecoder(open_session(folder.graph, "cpu", threads=1), folder.n_positions)


@pytest.fixture
def decoder(plain: FusedDecoder) -> FusedDecoder:
    return on_the_device(plain)


def on_the_device(plain: FusedDecoder) -> FusedDecoder:
    """A decoder of the same graph that captures its steps."""
    cpu = plain.session
    raw: Any = Replayer(cpu.raw)
    session = DeviceSession(raw, CUDA, DEVICE, "", cpu.inputs, cpu.outputs, captures=True)
    return FusedDecoder(session, plain.n_positions)


def write(decoder: FusedDecoder, lengths: Sequence[int], steps: int) -> list[np.ndarray]:
    """The logits [rows, vocab] of each step on prompts of these lengths; rows are given back."""
    rows = []
    for length in lengths:
        rows.append(decoder.new_row())
        reads.prefill(decoder, rows[-1], IDS[:length])
    logits = [reads.step(decoder, rows, IDS[step : step + len(rows)]) for step in range(steps)]
    for row in rows:
        decoder.free(row)
    return logits


@pytest.mark.parametrize("lengths", [[1], [5, 40, 17], [130, 3]], ids=str)
def test_the_logits_are_the_plain_steps(
    decoder: FusedDecoder, plain: FusedDecoder, lengths: list[int]
) -> None:
    pairs = zip(write(decoder, lengths, 8), write(plain, lengths, 8), strict=True)
    for captured, expected in pairs:
        np.testing.assert_allclose(captured, expected, atol=1e-5)
    raw: Any = decoder.session.raw
    assert len(raw.captured) == 1
    assert raw.runs[-8:] == [*raw.captured] * 8


def test_attention_is_told_of_the_whole_capacity(decoder: FusedDecoder) -> None:
    """The CPU's attention gives the same whatever it is told, CUDA's may not."""
    rows = [decoder.new_row() for _ in range(2)]
    decoder.reserve(0, 200)
    reads.step(decoder, rows, IDS[:2])
    raw: Any = decoder.session.raw
    (captured,) = raw.captured.values()
    told = captured.host["total_sequence_length"]
    assert decoder.cache.arena is not None
    assert (told, told.dtype) == (decoder.cache.arena.capacity, np.int32)
    assert captured.inputs["past_key_values.0.key"][1][2] == told


def test_a_prompt_is_never_captured(decoder: FusedDecoder) -> None:
    row = decoder.new_row()
    reads.prefill(decoder, row, IDS[:2])
    reads.extend(decoder, row, IDS[2:5])
    raw: Any = decoder.session.raw
    assert set(raw.runs) == {NO_GRAPH}
    assert not raw.captured


def test_a_cache_that_grew_is_captured_anew(decoder: FusedDecoder, plain: FusedDecoder) -> None:
    # 128 tokens is what an arena begins with.
    pairs = zip(write(decoder, [124, 3], 8), write(plain, [124, 3], 8), strict=True)
    for captured, expected in pairs:
        np.testing.assert_allclose(captured, expected, atol=1e-5)
    raw: Any = decoder.session.raw
    assert raw.released == [1]
    assert [*raw.captured] == [2]


def test_each_number_of_rows_has_its_graph(decoder: FusedDecoder, plain: FusedDecoder) -> None:
    for each in (decoder, plain):
        each.reserve(3, 20)
    rows, others = [[each.new_row() for _ in range(3)] for each in (decoder, plain)]
    for count in (3, 2, 3, 1, 2):  # of three that are in use: no row is spare
        ids = IDS[:count]
        np.testing.assert_allclose(
            reads.step(decoder, rows[:count], ids),
            reads.step(plain, others[:count], ids),
            atol=1e-5,
        )
    raw: Any = decoder.session.raw
    assert raw.runs == [1, 2, 1, 3, 2]


def test_a_batch_that_shrinks_needs_few_graphs(decoder: FusedDecoder, plain: FusedDecoder) -> None:
    """Up to a power of two the free rows of the arena are run along."""
    rows, others = [], []
    for each, held in ((decoder, rows), (plain, others)):
        each.reserve(6, 40)
        for length in (4, 9, 2, 30, 1, 7):
            held.append(each.new_row())
            reads.prefill(each, held[-1], IDS[:length])
    while rows:
        ids = IDS[: len(rows)]
        for _ in range(2):
            np.testing.assert_allclose(
                reads.step(decoder, rows, ids), reads.step(plain, others, ids), atol=1e-5
            )
        for each, held in ((decoder, rows), (plain, others)):
            each.free(held.pop(len(held) // 2))
            held.sort(key=lambda row: row.index)
    raw: Any = decoder.session.raw
    sizes = [told.inputs["input_ids"][1][0] for told in raw.captured.values()]
    assert sizes == [6, 4, 2, 1]


def test_rows_in_use_are_never_run_along(decoder: FusedDecoder, plain: FusedDecoder) -> None:
    """The others' first keys and values would be overwritten."""
    rows, others = [], []
    for each, held in ((decoder, rows), (plain, others)):
        each.reserve(4, 40)
        for length in (5, 6, 7, 8):
            held.append(each.new_row())
            reads.prefill(each, held[-1], IDS[:length])
    for count in (3, 4):
        np.testing.assert_allclose(
            reads.step(decoder, rows[:count], IDS[:count]),
            reads.step(plain, others[:count], IDS[:count]),
            atol=1e-5,
        )


STEP = ["set", "write", "synchronize", "run"]  # what then is read is over at once


def test_a_step_waits_for_its_inputs_alone(decoder: FusedDecoder) -> None:
    """The run waits by itself, and a copy from the device is over when it returns."""
    rows = [decoder.new_row() for _ in range(3)]
    for ids in (IDS[:3], IDS[3:6]):
        library().calls.clear()
        reads.step(decoder, rows, ids)
        assert library().calls == [*STEP, "read"]


Decoders = tuple[FusedDecoder, FusedDecoder]


@pytest.fixture
def largest(wide_checkpoint: Path, tmp_path: Path) -> Decoders:
    """Decoders of a graph that gives the largest logits: as CUDA graphs, and plain."""
    folder = open_folder(
        gpt2onnx.export(
            wide_checkpoint, tmp_path / "m", precision="fp16", device="cuda", verify=False
        ).folder
    )
    plain = FusedDecoder(open_session(folder.graph, "cpu", threads=1), folder.n_positions)
    return on_the_device(plain), plain


def test_the_largest_logits_come_alone(largest: Decoders) -> None:
    decoder, plain = largest
    rows, others = [[each.new_row() for _ in range(3)] for each in largest]
    for _ in range(2):
        library().calls.clear()
        found, expected = (
            reads.step_largest(decoder, rows, IDS[:3]),
            reads.step_largest(plain, others, IDS[:3]),
        )
        assert_equal(found, expected)
        assert library().calls[-4:] == STEP
        assert "read" not in library().calls
    # Where they don't settle a choice, the step is taken back, and replayed for all logits.
    for row, other in zip(rows, others, strict=True):
        decoder.truncate(row, 1)
        plain.truncate(other, 1)
    np.testing.assert_array_equal(
        reads.step(decoder, rows, IDS[:3]), reads.step(plain, others, IDS[:3])
    )


def test_the_largest_are_written_to_the_hosts_memory(largest: Decoders) -> None:
    decoder, _ = largest
    reads.step_largest(decoder, [decoder.new_row()], IDS[:1])
    raw: Any = decoder.session.raw
    ((_, told),) = raw.captured.items()
    locked = {
        name
        for name, place in told.outputs.items()
        if any(at <= place[-1] < at + len(held) for at, held in library().locked.items())
    }
    assert locked == {"top_ids", "top_logits", "top_logprobs"}


def test_the_largest_of_an_arenas_first_rows(largest: Decoders) -> None:
    """Between their outputs lie those of the other rows."""
    rows, others = [], []
    for each, held in zip(largest, (rows, others), strict=True):
        each.reserve(5, 20)
        held += [each.new_row() for _ in range(5)]
    decoder, plain = largest
    for count in (5, 2, 1):
        found = reads.step_largest(decoder, rows[:count], IDS[:count])
        assert_equal(found, reads.step_largest(plain, others[:count], IDS[:count]))
        assert library().calls[-1] == "run"


def test_the_largest_are_the_callers(largest: Decoders) -> None:
    decoder, _ = largest
    row = decoder.new_row()
    first = reads.step_largest(decoder, [row], IDS[:1])
    kept = [array.copy() for array in first[:3]]
    second = reads.step_largest(decoder, [row], IDS[1:2])
    assert_equal(first[:3], kept)
    assert not any(map(np.shares_memory, first[:3], second[:3]))


def assert_equal(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_rows_elsewhere_in_the_arena_are_run_plainly(
    decoder: FusedDecoder, plain: FusedDecoder
) -> None:
    for each in (decoder, plain):
        each.reserve(3, 20)
    rows, others = [[each.new_row() for _ in range(3)] for each in (decoder, plain)]
    logits = reads.step(decoder, rows[::2], IDS[:2])
    np.testing.assert_allclose(logits, reads.step(plain, others[::2], IDS[:2]), atol=1e-5)
    raw: Any = decoder.session.raw
    assert raw.runs == [1, NO_GRAPH]


def test_a_graph_serves_the_next_texts_too(decoder: FusedDecoder, plain: FusedDecoder) -> None:
    write(decoder, [60, 9], 3)
    assert decoder.cache.arena is None
    pairs = zip(write(decoder, [7, 20], 3), write(plain, [7, 20], 3), strict=True)
    for captured, expected in pairs:
        np.testing.assert_allclose(captured, expected, atol=1e-5)
    raw: Any = decoder.session.raw
    assert [*raw.captured] == [1]
    assert not raw.released


def test_the_logits_are_the_callers(decoder: FusedDecoder) -> None:
    first, second, *_ = write(decoder, [4], 2)
    kept = first.copy()
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)


def test_hidden_states_come_back_too(wide_checkpoint: Path, tmp_path: Path) -> None:
    folder = open_folder(
        gpt2onnx.export(
            wide_checkpoint, tmp_path / "m", precision="fp32", with_hidden_states=True, verify=False
        ).folder
    )
    plain = FusedDecoder(open_session(folder.graph, "cpu", threads=1), folder.n_positions)
    captured = on_the_device(plain)
    found, expected = (_hidden_states(each) for each in (captured, plain))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def _hidden_states(decoder: FusedDecoder) -> np.ndarray:
    """Those of the second step of two rows: [2, hidden_size]."""
    rows = [decoder.new_row(), decoder.new_row()]
    for row, length in zip(rows, (5, 3), strict=True):
        reads.prefill(decoder, row, IDS[:length])
    reads.step(decoder, rows, IDS[:2])
    lone = [Read(row, IDS[place : place + 1]) for place, row in enumerate(rows)]
    return np.concatenate([result.hidden for result in decoder.read(lone)])
