"""The options of a comparison's grid: where a model is run, and in what sizes."""

from __future__ import annotations

import argparse

from gpt2onnx.cli.parser import Parser
from gpt2onnx.compare.runtimes.table import RUNTIMES
from gpt2onnx.errors import Given, ParameterError, Plain, shown
from gpt2onnx.flags import nearest, refusal
from gpt2onnx.runtime.ort.kernels import GRAPHS
from gpt2onnx.runtime.ort.provider import find_provider

PROVIDERS = ("cpu", "cuda")
# Those whose logits can be seen.
COMPARABLE = [runtime.name for runtime in RUNTIMES.values() if runtime.gives_logits]


def add_grid(parser: Parser) -> None:
    group = parser.add_argument_group("grid")
    for name, kind, default, text in (
        ("providers", _names, None, "providers (default: cpu,cuda; cpu beside --runtimes)"),
        ("runtimes", _names, None, f"other runtimes: {', '.join(COMPARABLE)}"),
        ("precisions", _names, None, "precisions of a checkpoint's exports (default: fp32,int8)"),
        ("batch", _numbers, "1,8", "sequences that share a step"),
        ("context", _numbers, "32,512", "tokens of each prompt"),
    ):
        help_ = text if default is None else f"{text} (default: {default})"
        group.add_argument(f"--{name}", type=kind, default=default, metavar="LIST", help=help_)
    group.add_argument(
        "--new-tokens", type=int, default=64, metavar="N", help="tokens to write (default: 64)"
    )
    group.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads on the CPU (default: one per physical core that the process may use)",
    )
    group.add_argument(
        "--graph",
        choices=GRAPHS,
        default="auto",
        help="on the CPU, which of a folder's graphs to measure: in ONNX Runtime's operators "
        "(onnx), in gpt2onnx-kernels' (kernels; default: auto, both if that package is installed)",
    )
    group.add_argument(
        "--tf32", action="store_true", help="let CUDA round fp32 products to 10 bits (default: no)"
    )
    group.add_argument(
        "--cuda-graph",
        action="store_true",
        help="let CUDA capture decode steps and launch each as one graph (default: no)",
    )


def places(args: argparse.Namespace) -> tuple[tuple[str, ...], dict[str, str] | None]:
    """Providers, and runtimes with the provider of each.

    Raises ParameterError, and ProviderError for an unknown provider.
    """
    providers = args.providers or (PROVIDERS if args.runtimes is None else PROVIDERS[:1])
    return _providers(providers), _runtimes(args.runtimes)


def _providers(names: tuple[str, ...]) -> tuple[str, ...]:
    """Short names. Raises ProviderError for a name that ONNX Runtime doesn't know."""
    if "auto" in names:
        raise refusal("providers", Plain("auto"), "names, such as cpu,cuda")
    return tuple(find_provider(name).short for name in names)


def _runtimes(names: tuple[str, ...] | None) -> dict[str, str] | None:
    """Each with the provider that it computes on. Raises ParameterError."""
    if names is None:
        return None
    for name in names:
        if name not in RUNTIMES:
            raise ParameterError(
                *(Given("runtimes", Plain(",".join(names))), f": unknown runtime {shown(name)}: "),
                nearest(name, COMPARABLE),
            )
        if name not in COMPARABLE:
            raise ParameterError(
                Given("runtimes", Plain(name)),
                f": it shows no logits to compare: expected some of {', '.join(COMPARABLE)}",
            )
    if len(set(names)) < len(names):
        raise refusal("runtimes", Plain(",".join(names)), "each of them once")
    return {name: RUNTIMES[name].provider for name in names}


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"expected at least one, got {text!r}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas, got {text!r}") from None
