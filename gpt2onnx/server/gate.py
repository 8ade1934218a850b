"""The gate before all endpoints: who may come in, and whether the server still takes requests.

An ASGI application around another one. Knows headers; knows no body and no model.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt2onnx.errors import RequestError
from gpt2onnx.server.failures import error_response
from gpt2onnx.server.keys import Keys

# What tells nothing but that the server is there, and the page and its files, which have no data
# in them.
OPEN = ("/health", "/ready", "/")
OPEN_FOLDER = "/playground/"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

# Told the path, the status and the seconds of each request.
Observer = Callable[[str, int, float], None]


class Gate:
    """Lets requests in, counts those inside, and sends others away."""

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys | None = None,
        hosts: tuple[str, ...] = (),
        most_of_key: int | None = None,
        observe: Observer | None = None,
    ) -> None:
        """`hosts` are the only ones to be asked for, where there are any."""
        self.app = app
        self._keys, self._hosts, self._most = keys, hosts, most_of_key
        self._observe = observe
        self._of_key: Counter[str] = Counter()
        self.inside = 0
        self.is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # there is no other endpoint
            return
        began, status = time.monotonic(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._pass(scope, receive, noting)
        finally:
            if self._observe:
                self._observe(scope["path"], status, time.monotonic() - began)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        tenant = None
        try:
            tenant = self._let_in(scope)
        except RequestError as error:
            await error_response(error)(scope, receive, send)
            return
        scope["gpt2onnx.tenant"] = tenant
        counts = scope["method"] == "POST"
        self.inside += counts
        self._of_key[tenant or ""] += counts
        try:
            await self.app(scope, receive, send)
        finally:
            self.inside -= counts
            self._of_key[tenant or ""] -= counts

    def _let_in(self, scope: Scope) -> str | None:
        """Whose request it is. Raises RequestError."""
        headers = Headers(scope=scope)
        self._check_host(headers.get("host", ""))
        if scope["path"] in OPEN or scope["path"].startswith(OPEN_FOLDER):
            return None
        tenant = self._keys.owner(headers.get("authorization")) if self._keys else None
        if scope["method"] == "POST":
            self._check_room(tenant)
        return tenant

    def _check_room(self, tenant: str | None) -> None:
        if self.is_draining:
            raise RequestError(
                "the server is shutting down", 503, code="shutting_down", retry_after=5
            )
        if tenant is not None and self._most and self._of_key[tenant] >= self._most:
            raise RequestError(
                f"{self._most} requests of this key are running: expected fewer at once",
                429,
                code="rate_limit_exceeded",
                retry_after=1,
            )

    def _check_host(self, host: str) -> None:
        """A page of some other name must not reach a server on loopback (DNS rebinding)."""
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._hosts and name.lower() not in self._hosts:
            raise RequestError(
                f"the Host header is {host[:100]!r}: expected {', '.join(self._hosts)}",
                403,
                code="host_not_allowed",
            )
