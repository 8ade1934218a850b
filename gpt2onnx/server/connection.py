"""A connection of uvicorn's, which drops a client that doesn't read what it asked for.

What was sent waits in memory until it is read. uvicorn tells nobody that it waits for ever.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Seconds in which a client must read so many bytes, where more of them wait.
PATIENCE = 60.0
LEAST_BYTES = 16 * 1024


class Connection(HttpToolsProtocol):
    """One client's."""

    _unread = 0
    _watch: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_looking()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_looking()
        super().connection_lost(exc)

    def _look_again(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._watch = self.loop.call_later(PATIENCE, self._look)

    def _look(self) -> None:
        if self.transport.get_write_buffer_size() > self._unread - LEAST_BYTES:
            self.transport.abort()
        else:
            self._look_again()

    def _stop_looking(self) -> None:
        if self._watch:
            self._watch.cancel()
            self._watch = None
