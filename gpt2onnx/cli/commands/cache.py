"""gpt2onnx cache: list or clear what is kept in the user's cache folder."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict

from gpt2onnx.cli.output.table import table
from gpt2onnx.cli.parser import Parser
from gpt2onnx.errors import StorageError
from gpt2onnx.kept import Kept, clear, kept
from gpt2onnx.paths import cache_folder
from gpt2onnx.runtime.ort.startup_entries import SIZE, size_limit

DESCRIPTION = f"""\
Lists what gpt2onnx keeps for faster starts: models as ONNX Runtime or
gpt2onnx-kernels packed them for this processor, and large tokenizers
(startup), exports of the bundled models and of checkpoints given to compare
(export), and folders whose checksums were verified (checked). All of it is made
again when needed.

{SIZE} limits the size of startup (default: 4G); the
least recently used models are removed first, and 0 turns it off. GPT2ONNX_CACHE
sets the folder."""
EXAMPLES = [
    "gpt2onnx cache",
    "gpt2onnx cache --clear",
    f"{SIZE}=500M gpt2onnx generate ...",
]


def parser() -> Parser:
    parser = Parser("cache", "", DESCRIPTION, EXAMPLES)
    parser.add_argument("--clear", action="store_true", help="remove all of it")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    return parser


def run(args: argparse.Namespace) -> int:
    try:
        text = _cleared(args.json) if args.clear else _listed(args.json)
    except OSError as error:
        where, what = error.filename or cache_folder(), "removed" if args.clear else "read"
        raise StorageError(f"{where}: can't be {what}: {error.strerror}") from error
    print(end=text)
    return 0


def _cleared(as_json: bool) -> str:
    size = clear()
    if as_json:
        return json.dumps({"removed": size, "folder": str(cache_folder())}) + "\n"
    return f"removed {size / 1e6:.1f} MB from {cache_folder()}\n"


def _listed(as_json: bool) -> str:
    found = kept()
    if as_json:
        return "".join(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in found)
    used = sum(each.size for each in found)
    limit = f"startup may take {size_limit() / 1e6:.0f} MB"
    about = ("folder", f"{cache_folder()}: {used / 1e6:.1f} MB; {limit}")
    return table([about, *((each.kind, _line(each)) for each in found)]) + "\n"


def _line(each: Kept) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.last_used))
    return f"{each.size / 1e6:7.1f} MB  {when}  {each.name}"
