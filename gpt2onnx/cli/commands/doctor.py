"""gpt2onnx doctor: what is installed, and what really runs here."""

from __future__ import annotations

import argparse
import json

from gpt2onnx.cli.parser import Parser
from gpt2onnx.doctor import report

DESCRIPTION = """\
Checks the installation of ONNX Runtime, runs a small model on every provider,
and shows versions, processor, threads and folders. The exit status is 1 if no
provider runs."""
EXAMPLES = ["gpt2onnx doctor", "gpt2onnx doctor --json"]


def parser() -> Parser:
    parser = Parser("doctor", "", DESCRIPTION, EXAMPLES)
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object")
    return parser


def run(args: argparse.Namespace) -> int:
    found = report()
    print(json.dumps(found.as_dict(), ensure_ascii=False) if args.json else found)
    return 0 if any(provider.runs for provider in found.providers) else 1
