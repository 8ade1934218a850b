"""Bounds what it takes to compile a request's constraint, before its model compiles it.

A compiler can't be stopped; a process can. So each new constraint is compiled in another process
first. Knows no field.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque

from anyio import CapacityLimiter, to_thread

from gpt2onnx.errors import RequestError
from gpt2onnx.runtime.model import Model
from gpt2onnx.runtime.structured import trial
from gpt2onnx.samplers import GenerationParams

# At once, and how many requests may wait for one of these.
MOST_TRIALS = 2
MOST_WAITING = 64
# Constraints that are known to be compiled in time.
MOST_KNOWN = 1000


class Constraints:
    """Those of one model. Its processes start when they are needed, and stay."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._idle: list[trial.Trial] = []
        self._known: deque[bytes] = deque(maxlen=MOST_KNOWN)
        self._limiter = CapacityLimiter(MOST_TRIALS)
        self._waiting = 0
        self._is_closed = False

    async def require_bounded(self, params: GenerationParams) -> None:
        """Raises RequestError for a constraint that takes too long, and where too many wait."""
        if params.constraint is None:
            return
        key = _digest(params)
        if key in self._known:
            return
        if self._waiting >= MOST_WAITING:
            raise RequestError(
                f"{MOST_WAITING} requests with constraints are waiting to be compiled: expected "
                "fewer; try again later",
                503,
                code="queue_full",
                retry_after=5,
            )
        self._waiting += 1
        try:
            holds = await to_thread.run_sync(self._try, params, limiter=self._limiter)
        finally:
            self._waiting -= 1
        if not holds:
            name, _ = params.constraint
            raise RequestError(
                f"{name} takes more than {trial.SECONDS:g} seconds, or {trial.MEMORY >> 30} GiB, "
                "to compile: expected a simpler one",
                422,
                param=name,
                code="too_complex",
            )
        self._known.append(key)

    def close(self) -> None:
        """End its processes; one that is busy ends when it is done."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    def _try(self, params: GenerationParams) -> bool:
        try:
            one = self._idle.pop()
        except IndexError:
            tokenizer, vocab_size = self._model.folder.tokenizer, self._model.decoder.vocab_size
            one = trial.Trial(tokenizer, vocab_size, trial.SECONDS)
        holds = False
        try:
            holds = one.holds(params)
        finally:
            if holds and not self._is_closed:
                self._idle.append(one)
            else:
                one.close()
        return holds


def _digest(params: GenerationParams) -> bytes:
    written = json.dumps(trial.constraint_of(params), sort_keys=True)
    return hashlib.sha256(written.encode()).digest()
