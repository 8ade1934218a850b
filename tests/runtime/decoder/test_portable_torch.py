"""Every kind of graph that Optimum writes for GPT-2, or once wrote, against transformers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2LMHeadModel

from gpt2onnx.errors import CacheFullError, ModelFolderError
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.portable import PortableDecoder, PortableRow
from gpt2onnx.runtime.decoder.protocol import NONE, Ids, Logits, Read
from gpt2onnx.runtime.machine.processor import processor
from gpt2onnx.runtime.ort.provider import CPU
from gpt2onnx.runtime.ort.session import Session, TensorSpec, open_session
from tests.checkpoints import make_checkpoint
from tests.raising import raises

optimum = pytest.importorskip("optimum.exporters.onnx", reason="needs gpt2onnx[optimum]")
POSITIONS = 64
Shapes = dict[str, tuple[int | str, ...]]
TOLERANCES = {"half": 0.05}  # of logits around 7
DEFAULT_TOLERANCE = 1e-4


@contextmanager
def tracing() -> Iterator[None]:
    """torch.onnx warns of what it can't trace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def main_export(checkpoint: Path, out: Path, task: str, **options: Any) -> Path:
    with tracing():
        optimum.main_export(str(checkpoint), output=out, task=task, **options)
    return out / "model.onnx"


def trace(
    checkpoint: Path, path: Path, kind: str, *, past: bool = True, half: bool = False
) -> Path:
    """Optimum's exporter from within: what main_export has no options for."""
    from optimum.exporters.onnx.config import TextDecoderOnnxConfig
    from optimum.exporters.onnx.model_configs import GPT2OnnxConfig

    class WithoutPositions(TextDecoderOnnxConfig):
        NORMALIZED_CONFIG_CLASS = GPT2OnnxConfig.NORMALIZED_CONFIG_CLASS

    path.parent.mkdir(exist_ok=True)
    model = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager")
    config_class = {"gpt2": GPT2OnnxConfig, "without positions": WithoutPositions}[kind]
    dtype = "fp16" if half else "fp32"
    config = config_class(
        model.config,
        task="text-generation",
        use_past=True,
        use_past_in_inputs=past,
        float_dtype=dtype,
    )
    with tracing():
        optimum.export(model.half() if half else model, config, path, dtype=dtype)
    return path


def with_past(checkpoint: Path, out: Path) -> Path:
    return main_export(checkpoint, out, "text-generation-with-past")


def without_past(checkpoint: Path, out: Path) -> Path:
    return main_export(checkpoint, out, "text-generation")


def optimized(checkpoint: Path, out: Path) -> Path:
    return main_export(checkpoint, out, "text-generation-with-past", optimize="O2")


def without_positions(checkpoint: Path, out: Path) -> Path:
    """As Optimum wrote GPT-2 before 1.14."""
    return trace(checkpoint, out / "model.onnx", "without positions")


def half(checkpoint: Path, out: Path) -> Path:
    """main_export's own dtype="fp16" makes a graph of mixed types that ONNX Runtime refuses."""
    return trace(checkpoint, out / "model.onnx", "gpt2", half=True)


def merged(checkpoint: Path, out: Path) -> Path:
    """One graph for an empty past and another for a full one, as Optimum wrote them before 1.14."""
    from optimum.onnx import merge_decoders

    first = trace(checkpoint, out / "decoder_model.onnx", "gpt2", past=False)
    other = trace(checkpoint, out / "decoder_with_past_model.onnx", "gpt2")
    merge_decoders(first, other, save_path=out / "decoder_model_merged.onnx")
    return out / "decoder_model_merged.onnx"


def masked(checkpoint: Path, out: Path, element_type: int) -> Path:
    """With a mask of another type."""
    path = with_past(checkpoint, out)
    model = onnx.load(path)
    mask = next(node for node in model.graph.input if node.name == "attention_mask")
    mask.type.tensor_type.elem_type = element_type
    for node in model.graph.node:
        node.input[:] = [name.replace("attention_mask", "whole_mask") for name in node.input]
    cast = onnx.helper.make_node(
        "Cast", ["attention_mask"], ["whole_mask"], to=onnx.TensorProto.INT64
    )
    model.graph.node.insert(0, cast)
    onnx.save(model, path)
    return path


def bool_mask(checkpoint: Path, out: Path) -> Path:
    return masked(checkpoint, out, onnx.TensorProto.BOOL)


def int32_mask(checkpoint: Path, out: Path) -> Path:
    return masked(checkpoint, out, onnx.TensorProto.INT32)


KINDS: list[Callable[[Path, Path], Path]] = [
    with_past,
    without_past,
    optimized,
    without_positions,
    half,
    merged,
    bool_mask,
    int32_mask,
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), n_positions=POSITIONS)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Callable[[tuple[int, ...]], Logits]:
    """transformers' logits [length, vocab]."""
    model = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager").eval()

    @cache
    def logits(ids: tuple[int, ...]) -> Logits:
        with torch.inference_mode():
            return model(torch.tensor([ids])).logits[0].numpy()

    return logits


def open_decoder(graph: Path) -> PortableDecoder:
    return PortableDecoder(open_session(graph, "cpu", threads=1), POSITIONS)


@pytest.fixture(scope="module")
def decoder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> PortableDecoder:
    return open_decoder(with_past(checkpoint, tmp_path_factory.mktemp("with_past")))


class Checked:
    """Does with a decoder what it is told, and compares all logits with transformers'."""

    def __init__(
        self,
        decoder: PortableDecoder,
        reference: Callable[[tuple[int, ...]], Logits],
        tolerance: float = DEFAULT_TOLERANCE,
    ) -> None:
        self.decoder, self.reference, self.tolerance = decoder, reference, tolerance
        self.tokens: dict[PortableRow, list[int]] = {}

    def new_row(self) -> PortableRow:
        row = self.decoder.new_row()
        self.tokens[row] = []
        return row

    def fork(self, row: PortableRow) -> PortableRow:
        copy = self.decoder.fork(row)
        self.tokens[copy] = self.tokens[row].copy()
        return copy

    def copy(self, source: PortableRow, target: PortableRow) -> None:
        self.decoder.copy(source, target, 0)
        self.tokens[target] = self.tokens[source].copy()

    def truncate(self, row: PortableRow, length: int) -> None:
        self.decoder.truncate(row, length)
        del self.tokens[row][length:]
        assert row.length == length

    def free(self, row: PortableRow) -> None:
        self.decoder.free(row)
        del self.tokens[row]

    def prefill(self, row: PortableRow, ids: Ids) -> None:
        self.check(row, ids, reads.prefill(self.decoder, row, ids)[None])

    def extend(self, row: PortableRow, ids: Ids) -> None:
        logits = reads.extend(self.decoder, row, ids)
        assert len(logits) == len(ids)
        self.check(row, ids, logits)

    def step(self, rows: list[PortableRow], ids: Ids) -> None:
        logits = reads.step(self.decoder, rows, ids)
        assert logits.shape == (len(rows), self.decoder.vocab_size)
        for row, token, row_logits in zip(rows, ids, logits, strict=True):
            self.check(row, np.array([token]), row_logits[None])

    def check(self, row: PortableRow, ids: Ids, logits: Logits) -> None:
        """Compare the logits [n, vocab] after the last n of a row's tokens."""
        self.tokens[row] += ids.tolist()
        assert row.length == len(self.tokens[row])
        assert logits.dtype == np.float32
        expected = self.reference(tuple(self.tokens[row]))[row.length - len(logits) :]
        np.testing.assert_allclose(logits, expected, atol=self.tolerance, rtol=0)


def tokens(count: int, seed: int) -> Ids:
    return np.random.default_rng(seed).integers(0, 257, count)


@pytest.mark.parametrize("write", KINDS)
def test_logits_are_transformers(
    write: Callable[[Path, Path], Path],
    checkpoint: Path,
    reference: Callable[[tuple[int, ...]], Logits],
    tmp_path: Path,
) -> None:
    tolerance = TOLERANCES.get(write.__name__, DEFAULT_TOLERANCE)
    decoder = Checked(open_decoder(write(checkpoint, tmp_path / "out")), reference, tolerance)
    first, second = decoder.new_row(), decoder.new_row()
    decoder.prefill(first, tokens(5, 0))
    decoder.extend(second, tokens(17, 1))
    for step in range(8):
        decoder.step([second, first], tokens(2, step))
    third = decoder.fork(first)
    decoder.truncate(third, 9)
    decoder.free(first)
    decoder.extend(third, tokens(4, 2))
    decoder.step([third], tokens(1, 3))
    decoder.truncate(second, 0)
    decoder.prefill(second, tokens(POSITIONS - 1, 4))
    decoder.step([third, second], tokens(2, 5))
    assert second.length == POSITIONS


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["new", "fork", "copy", "truncate", "free", "prefill", "extend", "step"]),
        st.integers(0, 9),
        st.integers(1, 9),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(operations=OPERATIONS)
def test_rows_go_their_own_ways(
    decoder: PortableDecoder,
    reference: Callable[[tuple[int, ...]], Logits],
    operations: list[tuple[str, int, int]],
) -> None:
    checked = Checked(decoder, reference)
    checked.prefill(checked.new_row(), tokens(3, 0))
    for name, choice, count in operations:
        rows = list(checked.tokens)
        if name == "new" or not rows:
            checked.prefill(checked.new_row(), tokens(count, choice))
            continue
        row = rows[choice % len(rows)]
        if name == "fork":
            checked.fork(row)
        elif name == "copy":
            checked.copy(row, rows[count % len(rows)])
        elif name == "truncate":
            checked.truncate(row, row.length * choice // 10)
        elif name == "free":
            checked.free(row)
        elif name == "step":
            room = [row for row in rows if row.length < POSITIONS]
            checked.step(room, tokens(len(room), choice))
        elif row.length + count <= POSITIONS:
            getattr(checked, name)(row, tokens(count, choice))


def test_a_graph_that_optimum_quantized_gives_optimums_logits(
    checkpoint: Path, tmp_path: Path
) -> None:
    from optimum.onnxruntime import AutoQuantizationConfig, ORTModelForCausalLM, ORTQuantizer

    with_past(checkpoint, tmp_path / "fp32")
    # Before VNNI products of 8 bits would be clipped in Optimum's session, as they aren't in ours.
    kind = "avx2" if processor().saturates_int8 else "avx512_vnni"
    recipe = getattr(AutoQuantizationConfig, kind)(is_static=False, per_channel=True)
    ORTQuantizer.from_pretrained(tmp_path / "fp32").quantize(recipe, tmp_path / "int8")
    model = ORTModelForCausalLM.from_pretrained(tmp_path / "int8")
    decoder = open_decoder(tmp_path / "int8" / "model_quantized.onnx")
    row, past = decoder.new_row(), None
    for ids in [tokens(11, 0), *tokens(8, 1)[:, None]]:
        mask = torch.ones(1, row.length + len(ids), dtype=torch.int64)
        out = model(torch.from_numpy(ids)[None], attention_mask=mask, past_key_values=past)
        past = out.past_key_values
        np.testing.assert_allclose(
            reads.extend(decoder, row, ids), out.logits[0].numpy(), atol=1e-5, rtol=0
        )


def test_the_present_becomes_the_past_without_a_copy(decoder: PortableDecoder) -> None:
    row = decoder.new_row()
    reads.prefill(decoder, row, tokens(5, 0))
    past = list(row.past)
    fork = decoder.fork(row)
    assert all(mine is theirs for mine, theirs in zip(fork.past, past, strict=True))
    reads.step(decoder, [fork], tokens(1, 0))
    assert all(mine is theirs for mine, theirs in zip(row.past, past, strict=True))
    decoder.truncate(row, 5)
    assert all(mine is theirs for mine, theirs in zip(row.past, past, strict=True))


def test_logits_stay_when_the_decoder_goes_on(decoder: PortableDecoder) -> None:
    row = decoder.new_row()
    logits = reads.extend(decoder, row, tokens(9, 0))
    kept = logits.copy()
    for token in tokens(20, 1):
        reads.step(decoder, [row], np.array([token]))
    np.testing.assert_array_equal(logits, kept)


def test_the_logits_of_a_prompt_do_not_hold_on_to_all_of_them(decoder: PortableDecoder) -> None:
    (result,) = decoder.read([Read(decoder.new_row(), tokens(9, 0))])
    assert result.logits.base is None


def test_nothing_to_read_gives_nothing(decoder: PortableDecoder) -> None:
    assert decoder.read([]) == []
    (result,) = decoder.read([Read(decoder.new_row(), tokens(9, 0), NONE)])
    assert result.logits.shape == (0, 257)


def test_a_full_row_stays_as_it_is(decoder: PortableDecoder) -> None:
    full, other = decoder.new_row(), decoder.new_row()
    reads.prefill(decoder, full, tokens(POSITIONS, 0))
    with pytest.raises(CacheFullError, match="64 tokens and 1 more exceed the model's 64 pos"):
        reads.step(decoder, [other, full], tokens(2, 1))
    assert (full.length, other.length) == (POSITIONS, 0)
    with raises(CacheFullError, found=65, expected=64):
        reads.prefill(decoder, other, tokens(POSITIONS + 1, 1))


def test_a_row_is_not_truncated_to_more_than_it_holds(decoder: PortableDecoder) -> None:
    row = decoder.new_row()
    reads.prefill(decoder, row, tokens(3, 0))
    for length in (-1, 4):
        with pytest.raises(ValueError, match="expected 0 to 3"):
            decoder.truncate(row, length)


def test_a_graph_of_fixed_sizes_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    task = "text-generation-with-past"
    graph = main_export(checkpoint, tmp_path / "out", task, no_dynamic_axes=True)
    with pytest.raises(ModelFolderError, match=r"input_ids has the shape \(2, 16\): expected free"):
        open_decoder(graph)


def test_a_graph_without_a_head_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    graph = main_export(checkpoint, tmp_path / "out", "feature-extraction-with-past")
    with pytest.raises(ModelFolderError, match=r"outputs are last_hidden_state, .*expected logits"):
        open_decoder(graph)


IDS: Shapes = {"input_ids": ("batch", "sequence")}
KEY = "past_key_values.0.key"


def specs(shapes: Shapes) -> dict[str, TensorSpec]:
    return {name: TensorSpec(np.dtype(np.float32), shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (IDS | {"encoder_states": ("batch",)}, {}, "can't tell what to feed encoder_states"),
        ({"tokens": ("batch",)}, {}, "the graph's inputs are tokens: expected input_ids"),
        (IDS | {KEY: ("b", 2, "p", 8)}, {"logits": ("b", "s", 9)}, "expected present.0.key, too"),
        (
            IDS | {KEY: ("b", "h", "p", 8)},
            {"logits": ("b", "s", 9), "present.0.key": ("b", "h", "t", 8)},
            r"past_key_values.0.key has the shape .*expected \[batch, heads, past, head_dim\]",
        ),
        (IDS, {"logits": ("b", "s", "v")}, "logits has the shape .*number on axis 2"),
        (IDS, {"logits": ("b",)}, "logits has the shape .*number on axis 2"),
    ],
)
def test_a_graph_that_it_does_not_know_is_refused(
    inputs: Shapes, outputs: Shapes, message: str
) -> None:
    outputs = outputs or {"logits": ("b", "s", 9)}
    session = Session(None, CPU, 0, "", specs(inputs), specs(outputs))
    with pytest.raises(ModelFolderError, match=message):
        PortableDecoder(session, POSITIONS)
