"""gpt2onnx serve: models behind HTTP, as OpenAI's clients speak to one."""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2onnx.cli.options.model import add_graph, add_provider, add_startup_cache, find_model
from gpt2onnx.cli.parser import Parser
from gpt2onnx.cli.streams import say
from gpt2onnx.demo import DEMO
from gpt2onnx.errors import Given, InstallationError, ParameterError, ServerError
from gpt2onnx.models import load
from gpt2onnx.runtime.machine.threads import default_threads

if TYPE_CHECKING:
    from gpt2onnx.runtime.model import Model
    from gpt2onnx.server.app import Rules
    from gpt2onnx.server.served import Served

DESCRIPTION = """\
Serves models over HTTP: /v1/completions, /v1/chat/completions, /v1/embeddings,
/v1/models, as OpenAI's clients speak to them, and /v1/score, /tokenize,
/detokenize, /metrics, /health, /ready; /openapi.json describes them. Requests
share the model's steps, and each gets what it gets alone. The first SIGTERM or
Ctrl-C lets running requests finish, the second one ends at once. Needs the
packages of gpt2onnx[server]."""
EXAMPLES = [
    "gpt2onnx serve",
    "gpt2onnx serve gpt2-int8 --port 8080 --max-rows 16",
    "gpt2onnx serve small=gpt2-int8 large=gpt2-xl-int8 --draft large=gpt2-int8",
    "gpt2onnx serve gpt2-int8 --api-key-file keys.txt",
]
DEFAULT_PORT = 8000


def parser() -> Parser:
    parser = Parser("serve", "[MODEL ...]", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        default=[DEMO],
        help="model folder, alone or behind NAME=, by which clients ask for it (default: demo, "
        "the bundled model)",
    )
    _add_address(parser)
    _add_bounds(parser)
    group = parser.add_argument_group("model")
    group.add_argument(
        "--draft",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="draft model for speculative decoding: a smaller model with the same tokenizer, for "
        "the same texts in less time; of several models NAME says whose it is",
    )
    add_provider(group)
    add_startup_cache(group)
    add_graph(group)
    return parser


def _add_address(parser: Parser) -> None:
    group = parser.add_argument_group("address")
    group.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)"
    )
    group.add_argument(
        "--port",
        type=int,
        default=DEFAULT_PORT,
        metavar="N",
        help=f"its port; 0 is a free one (default: {DEFAULT_PORT})",
    )
    group.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="take requests with one of its keys only: one per line, alone or behind NAME:",
    )


def _add_bounds(parser: Parser) -> None:
    group = parser.add_argument_group("bounds")
    group.add_argument(
        "--max-rows", type=int, metavar="N", help="sequences that run at once (default: 32)"
    )
    group.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="positions that they may take in the cache (default: what half of the memory holds)",
    )
    group.add_argument(
        "--max-waiting",
        type=int,
        metavar="N",
        default=1024,
        help="requests that may wait for a row; more are told to try later (default: 1024)",
    )
    group.add_argument(
        "--max-requests-per-key",
        type=int,
        metavar="N",
        help="requests of one key at once; more are told to try later (default: no bound)",
    )
    group.add_argument(
        "--queue-timeout",
        type=float,
        metavar="SECONDS",
        help="how long a request may wait for a row (default: as long as it takes)",
    )
    group.add_argument(
        "--prefix-cache",
        default="0",
        metavar="SIZE",
        help="memory per model for prompts' beginnings, such as 512M (default: 0, none)",
    )
    group.add_argument(
        "--grace",
        type=float,
        default=30,
        metavar="SECONDS",
        help="how long running requests have to finish at the end (default: 30)",
    )


def run(args: argparse.Namespace) -> int:
    _check(args)
    try:
        from gpt2onnx.server import app, served
        from gpt2onnx.server import run as running
    except ImportError as error:
        raise InstallationError(
            f"the server needs packages that are missing ({error}): pip install 'gpt2onnx[server]'"
        ) from error
    rules = _rules(args)
    listening = running.listen(args.host, args.port)
    with ExitStack() as open_models, listening:
        models = _open(args, open_models)
        gate = app.make_app(served.ServedModels(models), rules)
        names = ", ".join(each.name for each in models)
        say(f"gpt2onnx: serving {names} on {running.address(listening)}")
        return running.run(gate, listening, open_models.close, args.grace)


def _rules(args: argparse.Namespace) -> Rules:
    from gpt2onnx.server.app import Rules
    from gpt2onnx.server.gate import LOOPBACK
    from gpt2onnx.server.keys import read_keys

    keys = read_keys(args.api_key_file) if args.api_key_file else None
    if args.max_requests_per_key is not None and not keys:
        raise ParameterError(
            Given("max_requests_per_key", args.max_requests_per_key),
            *(" has no effect without ", Given("api_key_file")),
        )
    hosts: tuple[str, ...] = ()
    if _is_loopback(args.host):
        hosts = (*LOOPBACK, f"[{args.host}]" if ":" in args.host else args.host.lower())
    elif not keys:
        say(
            f"gpt2onnx: warning: {args.host} can be reached from other machines, and everybody "
            "there may ask; --api-key-file FILE lets in who has a key"
        )
    return Rules(keys, hosts, args.max_requests_per_key, args.queue_timeout)


def _open(args: argparse.Namespace, open_models: ExitStack) -> list[Served]:
    """Load the models, each with its engine."""
    from gpt2onnx.server.served import Served
    from gpt2onnx.serving.engine import Engine

    served = []
    models = _named(args.models)
    drafts = _drafts(args.draft, models)
    args.threads = _share(args.threads, len(models))
    for name, folder in models.items():
        model = _load(args, folder, name)
        draft = _load(args, drafts[name], f"{name}'s draft") if name in drafts else None
        bounds: dict[str, Any] = {
            "max_rows": args.max_rows,
            "max_tokens": args.max_tokens,
            "max_waiting": args.max_waiting,
            "prefix_cache": args.prefix_cache,
        }
        engine = open_models.enter_context(Engine(model, **bounds))
        served.append(Served(name, engine, draft))
        open_models.callback(served[-1].close)
    return served


def _share(threads: int | None, models: int) -> int | None:
    """A model's threads: what is given, or where there are several its part of the machine's."""
    return threads if threads or models == 1 else max(1, default_threads() // models)


def _load(args: argparse.Namespace, folder: str, name: str) -> Model:
    """A model; says where it runs, and why there."""
    model = load(
        find_model(folder, args.provider),
        args.provider,
        args.provider_options,
        args.threads,
        args.startup_cache,
        args.graph,
    )
    say(f"gpt2onnx: {name}: {model.session.choice}")
    return model


def _drafts(given: list[str], models: Collection[str]) -> dict[str, str]:
    """Drafts' folders by the names of their models. Raises ServerError."""
    drafts: dict[str, str] = {}
    for each in given:
        name, equals, folder = each.partition("=")
        if not equals and len(models) == 1:
            (name,), folder = models, each
        if name not in models or not folder:
            listed = ", ".join(models)
            raise ServerError(f"--draft {each!r}: expected NAME=DIR, NAME being one of {listed}")
        if name in drafts:
            raise ServerError(f"two drafts are given for {name!r}: expected one")
        drafts[name] = folder
    return drafts


def _named(models: list[str]) -> dict[str, str]:
    """Folders by the names that clients ask for. Raises ServerError."""
    named: dict[str, str] = {}
    for each in models:
        before, equals, folder = each.partition("=")
        # Path.resolve raises RuntimeError for links in a circle.
        own = Path(os.path.realpath(each)).name if each != DEMO else DEMO
        name = before if equals else own
        folder = folder if equals else each
        if not name or not folder:
            raise ServerError(f"MODEL is {each!r}: expected DIR or NAME=DIR")
        if name in named:
            raise ServerError(f"two models are named {name!r}: give one another name, NAME=DIR")
        named[name] = folder
    return named


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check(args: argparse.Namespace) -> None:
    if not 0 <= args.port <= 65535:
        raise ParameterError(Given("port", args.port), ": expected 0 to 65535")
    for name in ("queue_timeout", "grace"):
        value = getattr(args, name)
        if value is not None and not 0 <= value < float("inf"):
            raise ParameterError(Given(name, value), ": expected seconds, 0 or more")
    most = args.max_requests_per_key
    if most is not None and most < 1:
        raise ParameterError(Given("max_requests_per_key", most), ": expected at least 1")
