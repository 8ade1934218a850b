"""gpt2onnx export: make a model folder of a checkpoint."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

from gpt2onnx.cli.options.checkpoint import add_revision
from gpt2onnx.cli.parser import Parser
from gpt2onnx.cli.streams import is_terminal
from gpt2onnx.demo import BUNDLED
from gpt2onnx.errors import SettingsWarning

DESCRIPTION = """\
Turns a GPT-2 checkpoint into a model folder: ONNX graph, tokenizer and
settings. SOURCE is a folder that transformers wrote, a model id of the hub, or
demo, the bundled model (./demo is a folder of that name). If PyTorch is
installed, the exported model's logits are compared with PyTorch's. OUT appears
only if everything went well."""
EXAMPLES = [
    "gpt2onnx export openai-community/gpt2 gpt2-int8",
    "gpt2onnx export ./my-checkpoint my-model --precision fp32 --verify",
    "gpt2onnx export demo demo-int4 --precision int4",
    "gpt2onnx export openai-community/gpt2 tuned --adapter ./my-lora",
    "gpt2onnx export demo everywhere --for genai --for transformers.js",
]

# Options that are export's own parameters, by the same names.
OPTIONS = (
    *(
        "precision",
        "graph",
        "device",
        "revision",
        "adapter",
        "with_hidden_states",
        "with_attention_bias",
    ),
    *("kv_cache", "calibration", "verify", "force", "strict"),
)


def parser() -> Parser:
    parser = Parser("export", "SOURCE OUT", DESCRIPTION, EXAMPLES)
    parser.add_argument("source", metavar="SOURCE", help="checkpoint: folder, model id or demo")
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    add_revision(parser)
    parser.add_argument(
        "--adapter",
        metavar="DIR",
        action="append",
        default=[],
        help="a LoRA adapter that PEFT saved, to be merged into the weights; may be repeated",
    )
    parser.add_argument(
        "--precision",
        metavar="NAME",
        default="int8",
        help="fp32, fp16, int8 (default), int8-dynamic or int4",
    )
    parser.add_argument(
        "--graph",
        metavar="NAME",
        help="fused, made for ONNX Runtime (default); masked, the same with the inputs that other "
        "libraries feed; portable, in standard operators alone",
    )
    parser.add_argument(
        "--for",
        dest="runtime",
        metavar="NAME",
        action="append",
        help="in the layout of onnxruntime (default), transformers.js, genai, openvino or optimum, "
        "with the graph that is best there; several: each a folder of its name in OUT",
    )
    parser.add_argument(
        "--device", metavar="NAME", default="cpu", help="made for cpu (default) or cuda"
    )
    parser.add_argument(
        "--with-hidden-states",
        action="store_true",
        help="let the graph give hidden states as well, which --penalty-alpha of generate needs",
    )
    parser.add_argument(
        "--with-attention-bias",
        action="store_true",
        help="give the graph an attention mask, which --lookahead-window-size of generate needs",
    )
    parser.add_argument(
        "--kv-cache",
        metavar="NAME",
        default="auto",
        help="float, the type of the activations; float16: half the memory and faster steps behind "
        "long contexts, with gpt2onnx-kernels; int8: a quarter of the memory, for less exact "
        "answers; or auto (default): float16 for int8 and int4 in the fused graph on the CPU where "
        "it holds the cache, else float",
    )
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="a text in UTF-8 like those to come, which tells int8, int8-dynamic, int4 and "
        "--kv-cache int8 what matters, and float16 whether it holds the cache (default: random "
        "tokens, and for int4 what the model writes)",
    )
    parser.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        help="compare with PyTorch (default: where it is installed)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the model folder that is at OUT"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="end with an error, not with a warning, where a setting of generation can't be kept",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    # Raises InstallationError where the export's packages are missing.
    from gpt2onnx.export import export
    from gpt2onnx.export.runtimes.targets import choose_runtime

    runtimes = list(dict.fromkeys(args.runtime or ["onnxruntime"]))
    for runtime in runtimes:  # before any is written
        choose_runtime(runtime, args.graph)
    given = {name: getattr(args, name) for name in OPTIONS}
    with warnings.catch_warnings():
        warnings.simplefilter("always", SettingsWarning)
        warnings.showwarning = _warn  # of which catch_warnings has kept the old one
        for runtime in runtimes:
            made = export(
                BUNDLED.get(args.source, args.source),
                args.out if len(runtimes) == 1 else Path(args.out, runtime),
                runtime=runtime,
                progress=is_terminal(sys.stderr),
                **given,
            )
            print(made)
    return 0


def _warn(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Print what a warning says in one line, and of a library's nothing."""
    if issubclass(category, SettingsWarning):
        print(f"gpt2onnx: warning: {message}", file=sys.stderr)
