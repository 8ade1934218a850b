"""The page to play on, at /: one file, which asks nobody but the server that it came from."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from gpt2onnx.page.text import legend


async def playground(request: Request) -> Response:
    """The page. Nothing may run in it but its own script."""
    content, policy = _page()
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)


@cache
def _page() -> tuple[str, str]:
    """The page, and what a browser may do with it."""
    here = files("gpt2onnx.server")
    script = (here / "playground.js").read_text(encoding="utf-8")
    style = (files("gpt2onnx.page") / "style.css").read_text(encoding="utf-8")
    page = (here / "playground.html").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return page.replace("$style", style).replace("$legend", legend()).replace(
        "$script", script
    ), policy
