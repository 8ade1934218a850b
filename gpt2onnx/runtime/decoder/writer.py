"""Writes the most probable tokens on the kernels' graph, several in one run: a loop in a graph.

Knows the loop's inputs and outputs (export/graph/draft.py lists them) and a cache's rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.runtime.decoder.binding import ArenaBinding
from gpt2onnx.runtime.decoder.kv_cache import CacheRow, KVCache
from gpt2onnx.runtime.decoder.protocol import Ids
from gpt2onnx.runtime.decoder.signature import cache_shape, require_names
from gpt2onnx.runtime.machine.turns import Turns, in_turn
from gpt2onnx.runtime.ort.session import Session

INPUTS = ("input_ids", "length", "row", "count", "least")
OUTPUTS = ("ids", "logprobs")
Logprobs: TypeAlias = NDArray[np.float32]


class LoopWriter:
    """Continues rows of a decoder's cache, in the decoder's turns.

    The session is opened when it is first needed: few models draft.
    """

    def __init__(self, cache: KVCache, turns: Turns, open_graph: Callable[[], Session]) -> None:
        self.turns = turns
        self._cache, self._open_graph = cache, open_graph

    def write(self, row: CacheRow, ids: Ids, count: int, confidence: float) -> Ids:
        """As GreedyWriter's. Raises CacheFullError; what opening the graph raises."""
        least = math.log(confidence) if confidence else -math.inf
        written, logprobs = self.go_on(row, ids, count, least)
        return written if logprobs[-1] >= np.float32(least) else written[:-1]

    @in_turn
    def go_on(
        self, row: CacheRow, ids: Ids, count: int, least: float = -math.inf
    ) -> tuple[Ids, Logprobs]:
        """Append ids [n] to a row, then the most probable token again and again, `count` at most.

        Gives these tokens [written], the last of which may be less probable than `least`, and their
        log-probabilities. Raises as `write`.
        """
        self._cache.make_room(row, len(ids) + count - 1)
        written, logprobs = self._run(
            {
                "input_ids": ids,
                "length": np.array([row.length]),
                "row": np.array([row.index]),
                "count": np.array(count),
                "least": np.array([least], np.float32),
            }
        )
        row.length += len(ids) + len(written) - 1
        return written, logprobs

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The graph's outputs, [written] each."""
        binding, arena = self._binding, self._cache.arena
        assert arena is not None  # a row was made before
        binding.bind(arena)
        for name, value in feeds.items():
            binding.feed(name, value)
        for name in OUTPUTS:  # anew: how long they are is decided by the run
            binding.raw.bind_output(name, "cpu")
        self.session.run(binding.raw)
        return [output.numpy()[:, 0] for output in binding.raw.get_outputs()]

    @cached_property
    def session(self) -> Session:
        """The graph's own. Raises what opening it raises."""
        session = self._open_graph()
        require_names(session, INPUTS, OUTPUTS)
        if cache_shape(session, self._cache.shape.n_positions) != self._cache.shape:
            raise session.unfit("the graph's cache isn't that of the kernels' graph beside it")
        return session

    @cached_property
    def _binding(self) -> ArenaBinding:
        return ArenaBinding(self.session, self._cache.shape)
