"""Writes the most probable tokens on the kernels' graph, several in one run: a loop in a graph.

Knows the loop's inputs and outputs (export/graph/draft.py lists them) and a cache's rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.decoder.binding import ArenaBinding, require_names
from gpt2onnx.runtime.decoder.kv_cache import CacheRow, KVCache
from gpt2onnx.runtime.decoder.protocol import Ids
from gpt2onnx.runtime.machine.turns import Turns, in_turn
from gpt2onnx.runtime.ort.session import Session

INPUTS = ("input_ids", "length", "row", "count", "least")
OUTPUTS = ("ids", "logprobs")


class LoopWriter:
    """Continues rows of a decoder's cache, in the decoder's turns.

    The session is opened when it is first needed: few models draft.
    """

    def __init__(self, cache: KVCache, turns: Turns, open_graph: Callable[[], Session]) -> None:
        self.turns = turns
        self._cache, self._open_graph = cache, open_graph

    @in_turn
    def write(self, row: CacheRow, ids: Ids, count: int, confidence: float) -> Ids:
        """As GreedyWriter's. Raises CacheFullError; what opening the graph raises."""
        self._cache.make_room(row, len(ids) + count - 1)
        least = np.array([math.log(confidence) if confidence else -math.inf], np.float32)
        feeds = {
            "input_ids": ids,
            "length": np.array([row.length]),
            "row": np.array([row.index]),
            "count": np.array(count),
            "least": least,
        }
        written, logprobs = self._run(feeds)
        row.length += len(ids) + len(written) - 1
        return written if logprobs[-1] >= least[0] else written[:-1]

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The tokens [written], the one that isn't sure included, and their log-probabilities."""
        binding, arena = self._binding, self._cache.arena
        assert arena is not None  # a row was made before
        binding.bind(arena)
        for name, value in feeds.items():
            binding.feed(name, value)
        for name in OUTPUTS:  # anew: how long they are is decided by the run
            binding.raw.bind_output(name, "cpu")
        self._session.run(binding.raw)
        return [output.numpy()[:, 0] for output in binding.raw.get_outputs()]

    @cached_property
    def _session(self) -> Session:
        session = self._open_graph()
        require_names("the draft graph's inputs", session.inputs, INPUTS)
        require_names("the draft graph's outputs", session.outputs, OUTPUTS)
        return session

    @cached_property
    def _binding(self) -> ArenaBinding:
        return ArenaBinding(self._session, self._cache.shape)
