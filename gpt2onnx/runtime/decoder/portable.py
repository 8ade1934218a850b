"""Decoder over a graph in standard operators, as Optimum writes it: it concatenates past and new.

Each step's present is the next step's past, without a copy. Every row has its own past and its own
run: such a graph takes rows together only where all are of one length, and if it was quantized
dynamically it rounds their activations by one scale, so that a row's tokens would depend on its
neighbours. A graph without a past is run on all of a row's tokens again for every new one.

Inputs                     shape
  input_ids                int64 [batch, sequence]
  attention_mask           [batch, past + sequence], ones; any type
  position_ids             [batch, sequence]; older graphs count for themselves
  use_cache_branch         bool [1], false on an empty past; older, merged graphs
  past_key_values.N.key    [batch, heads, past, head_dim], and .value
Outputs
  logits                   [batch, sequence, vocab]
  present.N.key            [batch, heads, past + sequence, head_dim], and .value

All but input_ids and logits may be missing. Knows these names, and rows; knows nothing of what lies
between them. https://huggingface.co/docs/optimum-onnx/onnx/package_reference/export
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.decoder.protocol import Ids, Logits, Read, Result, require_room
from gpt2onnx.runtime.decoder.signature import fixed_size, refuse_captures, require_names
from gpt2onnx.runtime.machine.turns import Turns, in_turn
from gpt2onnx.runtime.ort.session import Session

FED = ("input_ids", "attention_mask", "position_ids", "use_cache_branch")
PAST = re.compile(r"past_key_values\.(\d+\.(?:key|value))")


@dataclass(eq=False, slots=True)
class PortableRow:
    """A sequence: its tokens [length], and the past's tensors [1, heads, length, head_dim].

    The tensors (onnxruntime.OrtValue, on the session's device) are never written to, so rows share
    them.
    """

    ids: Ids
    past: Sequence[Any]

    @property
    def length(self) -> int:
        return len(self.ids)


class PortableDecoder:
    """Rows advanced one by one by one ONNX Runtime session.

    Threads may share it, each with rows of its own: every run has its turn.
    """

    hidden_size = 0
    can_branch = False
    writer = None
    exact_steps = False
    chunk = sys.maxsize  # such a graph gives the logits of all its tokens whatever is wanted

    def __init__(self, session: Session, n_positions: int) -> None:
        """Raises ModelFolderError where the graph's inputs or outputs aren't those above."""
        self.turns = Turns()
        self.session = session
        self.n_positions = n_positions
        refuse_captures(session, "its keys and values are other tensors at every step")
        self._fed, self._past, self._present = _names(session)
        self.vocab_size = fixed_size(session, "logits", 2, "batch, sequence, vocab")
        self._empty = [_empty(session, name) for name in self._past]

    def new_row(self) -> PortableRow:
        return PortableRow(np.empty(0, np.int64), self._empty)

    def fork(self, row: PortableRow) -> PortableRow:
        return PortableRow(row.ids, row.past)

    def copy(self, source: PortableRow, target: PortableRow, start: int) -> None:
        target.ids, target.past = source.ids, source.past

    def truncate(self, row: PortableRow, length: int) -> None:
        if not 0 <= length <= row.length:
            raise ValueError(f"length={length}: expected 0 to {row.length}, what the row holds")
        if length < row.length:
            row.past = [self._shortened(value, length) for value in row.past]
            row.ids = row.ids[:length]

    def free(self, row: PortableRow) -> None:
        row.ids, row.past = row.ids[:0], ()

    def reserve(self, rows: int, length: int) -> None:
        """Does nothing: ONNX Runtime allocates every present anew."""

    def accept(self, row: PortableRow, start: int, offsets: Ids) -> None:
        """Raises ValueError: what was never branched needs no keeping."""
        raise ValueError("a graph in standard operators takes no branches: nothing to keep")

    def take_out(self, row: PortableRow) -> PortableRow:
        """The row itself: its tensors are its own, wherever it stands."""
        return row

    def put_back(self, frozen: PortableRow) -> None:
        """Does nothing: the row was never away."""

    def gather(self, rows: Sequence[PortableRow]) -> None:
        """Does nothing: rows run one by one."""

    def read(self, reads: Sequence[Read]) -> list[Result]:
        for each in reads:
            self._require_room(each.row, len(each.ids))
        return [self._read(each) for each in reads]

    def _read(self, read: Read) -> Result:
        logits = self._run(read.row, read.ids)[read.wanted]
        # a copy: a view would hold on to the logits of all n
        return Result(logits if len(logits) == len(read.ids) else logits.copy())

    @in_turn
    def _run(self, row: PortableRow, ids: Ids) -> Logits:
        """Append ids [n] to a row: the logits [n, vocab] after each of them."""
        tokens = np.concatenate([row.ids, ids])
        known = row.length if self._past else 0
        binding = self.session.raw.io_binding()
        for name, value in self._feeds(tokens, known).items():
            binding.bind_cpu_input(name, value)
        for name, value in zip(self._past, row.past, strict=True):
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits", "cpu")
        for name in self._present:
            binding.bind_output(name, self.session.device_type, self.session.device_id)
        self.session.run(binding)
        logits, *row.past = binding.get_outputs()
        new = row.length - known
        row.ids = tokens
        values: NDArray[Any] = logits.numpy()[0, new:]
        return values.astype(np.float32, copy=False)

    def _feeds(self, tokens: Ids, known: int) -> dict[str, NDArray[Any]]:
        """The graph's inputs for tokens [length], the first `known` of which the past holds."""
        values = {
            "input_ids": tokens[None, known:],
            "attention_mask": np.ones((1, len(tokens)), np.int64),
            "position_ids": np.arange(known, len(tokens))[None],
            "use_cache_branch": np.array([known > 0]),
        }
        return {name: values[name].astype(self.session.inputs[name].dtype) for name in self._fed}

    def _require_room(self, row: PortableRow, tokens: int) -> None:
        require_room(row.length, tokens, self.n_positions)

    @in_turn
    def _shortened(self, value: Any, length: int) -> Any:
        """The first `length` tokens of a past's tensor, copied by way of the host."""
        kept = np.ascontiguousarray(value.numpy()[:, :, :length])
        shortened = self.session.allocate(kept.shape, kept.dtype)
        shortened.update_inplace(kept)
        return shortened


def _names(session: Session) -> tuple[list[str], list[str], list[str]]:
    """The inputs that are fed, those that are the past, and the outputs that are the next one."""
    fed = [name for name in session.inputs if name in FED]
    past = [name for name in session.inputs if PAST.fullmatch(name)]
    present = [PAST.sub(r"present.\1", name) for name in past]
    strange = [name for name in session.inputs if name not in fed and name not in past]
    if strange or "input_ids" not in fed:
        raise session.unfit(
            f"the graph's inputs are {', '.join(session.inputs)}: expected input_ids with any of "
            f"{', '.join(FED[1:])} and past_key_values.N.key and .value"
            + (f", and can't tell what to feed {', '.join(strange)}" if strange else "")
        )
    require_names(session, past, ["logits", *present])
    shape = session.inputs["input_ids"].shape
    if any(isinstance(size, int) for size in shape):
        raise session.unfit(
            f"input_ids has the shape {shape}: expected free sizes; export with dynamic axes",
            "input_ids",
        )
    return fed, past, present


def _empty(session: Session, name: str) -> Any:
    """A past of no tokens."""
    layout = "batch, heads, past, head_dim"
    heads, head_dim = (fixed_size(session, name, axis, layout) for axis in (1, 3))
    return session.allocate([1, heads, 0, head_dim], session.inputs[name].dtype)
