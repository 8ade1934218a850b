"""A request's handle: its tokens as they come, and its results; to wait on, or to await.

Knows threads and asyncio; knows nothing of how tokens come about.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from functools import partial
from threading import Condition
from typing import Any

from gpt2onnx.errors import Given, Gpt2OnnxError, ParameterError
from gpt2onnx.runtime.decoding.results import Token


class Handle:
    """A request that an engine took. Any number of threads and tasks may wait on it.

    `result()` and `await handle` give what Model.generate gives; `for token in handle` and
    `async for token in handle` give each token as it comes, from the first one on. Where the
    request failed, was cancelled or expired they raise why.
    """

    def __init__(self, cancel: Callable[[Handle], None], has_tokens: bool) -> None:
        """`has_tokens` is whether they come one by one; those of beams don't."""
        self._cancel, self._has_tokens = cancel, has_tokens
        self._changed = Condition()
        self._listeners: list[Callable[[], None]] = []
        self._tokens: list[Token] = []
        self._results: Any = None
        self._error: Exception | None = None
        self._done = False

    @property
    def done(self) -> bool:
        """Whether it is over, whichever way."""
        return self._done

    def cancel(self) -> None:
        """End the request. Its rows are free within one step; of one that is over it does nothing.

        Whoever waits gets a RequestCancelledError.
        """
        self._cancel(self)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end: a Generation, or a list, as Model.generate gives it.

        Raises TimeoutError where it isn't over after `timeout` seconds, and the request's own
        error.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._done, timeout):
                raise TimeoutError(f"the request isn't over after {timeout} seconds")
        return self._outcome()

    def __iter__(self) -> Iterator[Token]:
        self._require_tokens()
        place = 0
        while True:
            with self._changed:
                self._changed.wait_for(partial(self._has_more, place))
                tokens = self._tokens[place:]
            yield from tokens
            place += len(tokens)
            if self._done and place == len(self._tokens):
                self._outcome()
                return

    async def __aiter__(self) -> AsyncIterator[Token]:
        self._require_tokens()
        place = 0
        while True:
            await self._until(partial(self._has_more, place))
            tokens = self._tokens[place:]
            for token in tokens:
                yield token
            place += len(tokens)
            if self._done and place == len(self._tokens):
                self._outcome()
                return

    def __await__(self) -> Generator[Any, None, Any]:
        return self._ended().__await__()

    def put(self, tokens: Sequence[Token]) -> None:
        """Tokens that came; for the engine."""
        self._tokens += tokens
        self._tell()

    def finish(self, results: Any = None, error: Exception | None = None) -> None:
        """The end; for the engine."""
        self._results, self._error, self._done = results, error, True
        self._tell()

    async def _ended(self) -> Any:
        await self._until(lambda: self._done)
        return self._outcome()

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so, which changes where `_tell` is called."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def listener() -> None:
            if is_so():  # who waits for the end sleeps through the tokens
                loop.call_soon_threadsafe(changed.set)

        with self._changed:
            self._listeners.append(listener)
        try:
            while not is_so():
                await changed.wait()
                changed.clear()
        finally:
            with self._changed:
                self._listeners.remove(listener)

    def _has_more(self, place: int) -> bool:
        """Whether there is more than `place` tokens, or never will be."""
        return self._done or len(self._tokens) > place

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
            for listener in self._listeners:
                listener()

    def _outcome(self) -> Any:
        if self._error is None:
            return self._results
        if isinstance(self._error, Gpt2OnnxError):
            raise self._error.with_traceback(None)
        raise self._error

    def _require_tokens(self) -> None:
        if not self._has_tokens:
            raise ParameterError(
                Given("num_beams"),
                ": a beam search has no tokens before its end; wait for the result instead",
            )
