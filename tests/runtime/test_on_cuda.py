"""What the CUDA path claims, on a device. Its parts are tested without one in test_cuda.py and
test_step_graphs.py; `python -m benchmarks.cuda` shows the same for GPT-2 124M, with times.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.errors import ParameterError
from gpt2onnx.export.quantization import blocks
from gpt2onnx.runtime.decoder import reads
from tests.checkpoints import make_checkpoint
from tests.raising import raises
from tests.runtime.ort.test_session import CUDA

pytestmark = pytest.mark.cuda

# Heads of 64, as GPT-2's: ONNX Runtime has kernels of their own for that size.
SHAPE = {"n_embd": 128, "n_head": 2, "n_positions": 320}
PRECISIONS = ("fp32", "fp16", "int8", "int4")
FLOATS = PRECISIONS[:2]
# Greedy and top_k take the largest logits alone, the others all of them.
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"repetition_penalty": 1.2},
    {"do_sample": True, "seed": 3},
    {"do_sample": True, "seed": 4, "top_k": 0},
)
ENDS = list(range(8))  # some of the rows come upon one of these
GRAPHS = {"enable_cuda_graph": "1"}
IDS = np.random.default_rng(2).integers(0, 257, 300)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """The model made for CUDA in a precision, on a provider, with CUDA graphs or without."""
    checkpoint = make_checkpoint(tmp_path_factory.mktemp("checkpoint"), **SHAPE)
    out = tmp_path_factory.mktemp("models")

    @cache
    def exported(precision: str, accuracy_level: int) -> Path:
        folder = out / f"{precision}-{accuracy_level}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocks, "ACCURACY_LEVEL", accuracy_level)
            return gpt2onnx.export(
                checkpoint, folder, precision=precision, device="cuda", verify=False
            ).folder

    @cache
    def get(precision: str, graphs: bool = False, provider: str = CUDA) -> Model:
        # The CPU is not to round activations to 8 bits, which CUDA never does.
        accuracy_level = 1 if provider == "cpu" else blocks.ACCURACY_LEVEL
        return loaded(exported(precision, accuracy_level), graphs, provider)

    return get


def loaded(folder: Path, graphs: bool, provider: str = CUDA) -> Model:
    return gpt2onnx.load(folder, provider, provider_options=GRAPHS if graphs else None)


def stepped(model: Model, prompts: list[int], steps: int) -> np.ndarray:
    """Logits [steps, rows, vocab] of rows that begin with so many tokens of IDS."""
    decoder = model.decoder
    rows = [decoder.new_row() for _ in prompts]
    for row, length in zip(rows, prompts, strict=True):
        reads.prefill(decoder, row, IDS[:length])
    newest = [IDS[[length + step for length in prompts]] for step in range(steps)]
    logits = np.stack([reads.step(decoder, rows, ids) for ids in newest])
    for row in rows:
        decoder.free(row)
    return logits


def assert_close(logits: np.ndarray, expected: np.ndarray, share: float) -> None:
    """No logit is off by more than that share of the logits' deviation."""
    assert np.abs(logits - expected).max() < share * expected.std()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
def test_the_logits_are_the_cpus(
    opened: Callable[..., Model], precision: str, graphs: bool
) -> None:
    # 300 tokens are chunks on top of a past, and steps from 125 on see the cache grow.
    for prompts in ([1], [290], [125, 3, 60]):
        logits = stepped(opened(precision, graphs), prompts, 8)
        expected = stepped(opened(precision, provider="cpu"), prompts, 8)
        assert_close(logits, expected, 0.1)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_captured_steps_are_the_plain_ones(opened: Callable[..., Model], precision: str) -> None:
    for prompts in ([5], [125, 3, 60], [9, 9], [5]):
        logits = stepped(opened(precision, graphs=True), prompts, 8)
        assert_close(logits, stepped(opened(precision), prompts, 8), 0.02)


@pytest.mark.parametrize("precision", FLOATS)
@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
def test_rows_do_not_see_each_other(
    opened: Callable[..., Model], precision: str, graphs: bool
) -> None:
    model, prompts = opened(precision, graphs), [1, 37, 64, 9]
    together = stepped(model, prompts, 8)
    for row, length in enumerate(prompts):
        assert_close(together[:, row], stepped(model, [length], 8)[:, 0], 0.02)


@pytest.mark.parametrize("precision", FLOATS)
@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
def test_beams_are_the_cpus(opened: Callable[..., Model], precision: str, graphs: bool) -> None:
    settings = {"max_new_tokens": 12, "num_beams": 4, "num_return_sequences": 4}
    ours = opened(precision, graphs).generate(IDS[:20], **settings)
    theirs = opened(precision, provider="cpu").generate(IDS[:20], **settings)
    np.testing.assert_allclose([r.score for r in ours], [r.score for r in theirs], atol=0.01)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
def test_fp32s_tokens_are_the_cpus(
    opened: Callable[..., Model], graphs: bool, settings: dict[str, Any]
) -> None:
    """Of prompts of several lengths, whose rows end one by one."""
    prompts = [IDS[:length].tolist() for length in (5, 100, 1, 60, 33)]
    ours, theirs = (
        model.generate(prompts, max_new_tokens=60, eos_token_id=ENDS, **settings)
        for model in (opened("fp32", graphs), opened("fp32", provider="cpu"))
    )
    assert len({len(one.token_ids) for one in theirs}) > 2
    assert [one.token_ids for one in ours] == [one.token_ids for one in theirs]


@pytest.mark.parametrize("vocab_size", [257, 50257])  # for which ONNX Runtime has other kernels
@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
def test_fp32s_largest_logits_are_those_of_all(
    tmp_path: Path, graphs: bool, vocab_size: int
) -> None:
    checkpoint = make_checkpoint(tmp_path / "gpt2", n_embd=64, n_head=1, vocab_size=vocab_size)
    folder = gpt2onnx.export(
        checkpoint, tmp_path / "fp32", precision="fp32", device="cuda", verify=False
    ).folder
    decoder = loaded(folder, graphs).decoder
    rows = [decoder.new_row() for _ in range(3)]
    for row in rows:
        reads.prefill(decoder, row, IDS[row.index : 10])
    ids, logits, logprobs, *_ = reads.step_largest(decoder, rows, IDS[:3])
    for row in rows:
        decoder.truncate(row, row.length - 1)
    every = reads.step(decoder, rows, IDS[:3]).astype(np.float64)
    expected = np.argsort(-every, axis=1, kind="stable")[:, :64]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(logits, np.take_along_axis(every, ids, 1))
    softmax = np.exp(logits) / np.exp(every).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logprobs, np.log(softmax), atol=1e-3)


def rearranged(model: Model) -> np.ndarray:
    """Logits [23, vocab] of rows that were forked, cut off, copied and kept in part.

    The last row takes no part in the step, which mustn't write to it.
    """
    decoder = model.decoder
    first = decoder.new_row()
    reads.prefill(decoder, first, IDS[:40])
    rows = [first, decoder.fork(first), decoder.fork(first), decoder.new_row()]
    reads.prefill(decoder, rows[3], IDS[100:103])
    decoder.truncate(rows[1], 25)
    reads.extend(decoder, rows[1], IDS[200:210])
    decoder.truncate(rows[1], 25)
    decoder.copy(first, rows[1], 25)
    decoder.accept(rows[2], 20, np.array([0, 3, 4, 9]))
    stepped, behind = (
        reads.step(decoder, rows[:3], IDS[:3]),
        reads.extend(decoder, rows[3], IDS[:20]),
    )
    for row in rows:
        decoder.free(row)
    return np.concatenate([stepped, behind])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "graphs"])
def test_rows_are_rearranged_as_on_the_cpu(
    opened: Callable[..., Model], precision: str, graphs: bool
) -> None:
    expected = rearranged(opened(precision, provider="cpu"))
    assert_close(rearranged(opened(precision, graphs)), expected, 0.1)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_work_is_left_to_the_cpu(opened: Callable[..., Model], precision: str) -> None:
    session = opened(precision).decoder.session
    left = {
        node.op_type
        for part in session.raw.get_provider_graph_assignment_info()
        for node in part.get_nodes()
        if part.ep_name != CUDA
    }
    assert left <= {"Shape", "Concat", "Gather", "Slice"}  # which compute shapes


def test_a_portable_graph_is_not_captured(wide_checkpoint: Path, tmp_path: Path) -> None:
    """Its shapes change with every step."""
    folder = gpt2onnx.export(
        wide_checkpoint, tmp_path / "model", graph="portable", precision="fp32", verify=False
    ).folder
    with raises(ParameterError, named=("enable_cuda_graph",)):
        loaded(folder, graphs=True)
