"""Which model to open, and where: the options of every command that runs one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2onnx import demo
from gpt2onnx.cli.parser import Pairs, Parser, utf8
from gpt2onnx.cli.streams import say
from gpt2onnx.demo import BUNDLED, DEMO
from gpt2onnx.models import load, resolve
from gpt2onnx.runtime.ort.kernels import GRAPHS
from gpt2onnx.runtime.ort.provider import export_device, require_provider

if TYPE_CHECKING:
    from gpt2onnx.runtime.model import Model


def add_model(parser: Parser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="DIR",
        default=DEMO,
        help="model folder, from `gpt2onnx export` or Optimum (default: demo, the bundled model, "
        "which is exported at its first use)",
    )
    add_provider(group)
    add_startup_cache(group)
    add_graph(group)


def add_graph(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--graph",
        choices=GRAPHS,
        default="auto",
        help="on the CPU, which operators to run: ONNX Runtime's (onnx) or gpt2onnx-kernels' "
        "(kernels; default: auto, kernels if that package is installed)",
    )


def add_provider(group: argparse._ArgumentGroup) -> None:
    """Where a model runs."""
    group.add_argument(
        "--provider",
        metavar="NAME",
        default="auto",
        help="cpu, cuda or another ONNX Runtime provider, its own or a plugin's "
        "(onnxruntime-ep-NAME; default: auto, CUDA if it runs here)",
    )
    group.add_argument(
        "--provider-option",
        dest="provider_options",
        type=_pair,
        action=Pairs,
        metavar="KEY=VALUE",
        help="an option of the named provider; repeatable",
    )
    group.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads on the CPU (default: one per physical core that the process may use)",
    )


def add_startup_cache(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--startup-cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="on the CPU, keep the optimised and packed model in the user's cache folder for "
        "faster starts (default: yes; `gpt2onnx cache` lists what is kept)",
    )


def add_beside(parser: Parser) -> None:
    """What may stand beside the model and the prompt: another model, another prompt."""
    parser.add_argument(
        "--draft",
        metavar="DIR",
        help="draft model for speculative decoding: a smaller model with the same tokenizer, for "
        "the same text in less time (demo-draft is the bundled model's)",
    )
    parser.add_argument(
        "--negative-prompt",
        type=utf8,
        metavar="TEXT",
        help="what --guidance-scale steers away from (default: the prompt's last token alone)",
    )


def given_beside(args: argparse.Namespace) -> dict[str, Any]:
    """Those of the two that the call gives, as `Model.generate` takes them."""
    draft = None if args.draft is None else find_model(args.draft, args.provider)
    both = {"draft": draft, "negative_prompt": args.negative_prompt}
    return {name: value for name, value in both.items() if value is not None}


def open_model(args: argparse.Namespace, name: str | None = None) -> Model:
    """The model of a name, --model's if none is given, where the options have it run."""
    folder = find_model(args.model if name is None else name, args.provider)
    return load(
        folder,
        args.provider,
        args.provider_options,
        args.threads,
        args.startup_cache,
        args.graph,
    )


def find_model(name: str, provider: str = "auto") -> Path:
    """The folder of a model; says so where finding it takes a while."""
    if name in BUNDLED and not demo.is_there(demo.folder(name, device=export_device(provider))):
        if provider != "auto":
            require_provider(provider)  # before it is exported in vain
        kind = "model" if name == DEMO else "draft"
        say(f"gpt2onnx: exporting the bundled {kind}, once")
    return resolve(name, provider)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = utf8(text).partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, value
