"""The page to play on, at /, and the files that it asks for, all of them of this server."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gpt2onnx.page.text import legend
from gpt2onnx.server.gate import OPEN_FOLDER
from gpt2onnx.server.knobs import FORMS, form_knob, more_knobs, usual_knobs

# Below it are the page's files, which have no data in them.
FOLDER = OPEN_FOLDER
_WEB = files("gpt2onnx.server") / "web"
_FILES = {"page.css": files("gpt2onnx.page") / "style.css"} | {
    each.name: each for each in _WEB.iterdir() if each.name.endswith((".css", ".js"))
}
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
# Nothing may run in the page, or be asked by it, but this server's own.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


async def playground(request: Request) -> Response:
    """The page."""
    return Response(_page(), media_type="text/html; charset=utf-8", headers=_HEADERS)


async def playground_file(request: Request) -> Response:
    """One of its files."""
    name = request.path_params["name"]
    if name not in _FILES:
        raise HTTPException(404)
    return Response(_content(name), media_type=_TYPES[name.rpartition(".")[2]], headers=_HEADERS)


@cache
def _page() -> str:
    template = Template((_WEB / "playground.html").read_text(encoding="utf-8"))
    forms = {name: form_knob(name) for name in FORMS}
    return template.substitute(legend=legend(), usual=usual_knobs(), more=more_knobs(), **forms)


@cache
def _content(name: str) -> str:
    return _FILES[name].read_text(encoding="utf-8")
