"""gpt2onnx inspect: show what a model folder holds, and check its files."""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt2onnx.cli.options.model import find_model
from gpt2onnx.cli.output.table import table
from gpt2onnx.cli.parser import Parser
from gpt2onnx.runtime.decoder.cache_size import cache_bytes_per_token
from gpt2onnx.runtime.folder.model_folder import KERNELS_GRAPH, ModelFolder, open_folder
from gpt2onnx.runtime.ort.kernels import chosen_kernels
from gpt2onnx.runtime.ort.provider import CPU
from gpt2onnx.runtime.ort.session import TensorSpec, open_session

DESCRIPTION = """\
Shows what a model folder holds: where it came from, what its export measured,
the graph's inputs and outputs, the files, and the size of the KV cache. Reads
folders of other exporters as well."""
EXAMPLES = ["gpt2onnx inspect gpt2-int8 --check", "gpt2onnx inspect demo --json"]

SHOWN = ("files", "runtime")  # of the manifest, elsewhere
SHAPE = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")


def parser() -> Parser:
    parser = Parser("inspect", "DIR", DESCRIPTION, EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="model folder, or demo, the bundled one")
    parser.add_argument(
        "--check", action="store_true", help="compare every file with its SHA-256 in the manifest"
    )
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object")
    return parser


def run(args: argparse.Namespace) -> int:
    folder = open_folder(find_model(args.folder))
    if args.check:
        folder.check_hashes()
    session = open_session(folder.graph, "cpu")
    found = {
        "folder": str(folder.path),
        "checked": args.check,
        "edited": folder.edited_settings(),
        "manifest": folder.manifest,
        "runtimes": _runtimes(folder, session.inputs),
        "config": folder.config,
        "kv_cache": _cache(session.inputs, folder.n_positions),
        "kernels": _kernels(folder, session.inputs),
        "inputs": _specs(session.inputs),
        "outputs": _specs(session.outputs),
        "files": _files(folder.path),
    }
    print(json.dumps(found, ensure_ascii=False) if args.json else _as_text(found))
    return 0


def _runtimes(folder: ModelFolder, inputs: Mapping[str, TensorSpec]) -> list[str]:
    """Whose layout the folder has: this package reads all, others their own."""
    hub = "attention_mask" in inputs and folder.graph.parent == folder.path
    tokenizer = (folder.path / "tokenizer_config.json").is_file()
    layouts = {
        "genai": hub and (folder.path / "genai_config.json").is_file(),
        "openvino": hub and (folder.manifest or {}).get("graph") == "portable",
        "optimum": hub and tokenizer,
        "transformers.js": folder.graph.parent.name == "onnx" and tokenizer,
    }
    return ["onnxruntime", *(name for name, whole in layouts.items() if whole)]


def _cache(inputs: Mapping[str, TensorSpec], n_positions: int) -> dict[str, int]:
    token = cache_bytes_per_token(inputs)
    return {"bytes_per_token": token, "bytes_at_full_length": token * n_positions}


def _kernels(folder: ModelFolder, inputs: Mapping[str, TensorSpec]) -> dict[str, Any] | None:
    """The graph of gpt2onnx-kernels' operators, the kernels here or why there are none, its cache.

    `inputs` are those of the graph beside it, which never has the cache in half precision.
    """
    if not (folder.path / KERNELS_GRAPH).is_file():
        return None
    kernels, passed_over = chosen_kernels(folder, "auto", CPU.short)
    if (folder.manifest or {}).get("kv_cache") == "float16":
        half = np.dtype(np.float16)
        inputs = {name: spec._replace(dtype=half) for name, spec in inputs.items()}
    return {
        "graph": KERNELS_GRAPH,
        "name": kernels.name if kernels else None,
        "reason": passed_over or None,
        "kv_cache": _cache(inputs, folder.n_positions),
    }


def _specs(specs: Mapping[str, TensorSpec]) -> dict[str, dict[str, Any]]:
    return {name: {"dtype": str(s.dtype), "shape": list(s.shape)} for name, s in specs.items()}


def _files(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _as_text(found: Mapping[str, Any]) -> str:
    manifest = found["manifest"] or {"manifest": "none: another exporter's folder"}
    shape = {name: found["config"][name] for name in SHAPE if name in found["config"]}
    about = [
        ("folder", found["folder"]),
        *([("checked", _checked(found["edited"]))] if found["checked"] else []),
        *(("edited", f"{name}, since the export") for name in found["edited"]),
        *((name, _words(value)) for name, value in manifest.items() if name not in SHOWN),
        ("runtimes", ", ".join(found["runtimes"])),
        ("model", _words(shape)),
        ("kv cache", _cache_words(found["kv_cache"])),
        *([("kernels", _kernels_words(kernels))] if (kernels := found["kernels"]) else []),
    ]
    files = [(name, f"{size:,} bytes") for name, size in found["files"].items()]
    sections = {"inputs": _tensors(found["inputs"]), "outputs": _tensors(found["outputs"])}
    return "\n".join(
        [
            table(about),
            *(f"\n{title}\n{table(rows)}" for title, rows in {**sections, "files": files}.items()),
        ]
    )


def _cache_words(cache: Mapping[str, int]) -> str:
    whole = cache["bytes_at_full_length"] / 1e6
    return f"{cache['bytes_per_token']:,} bytes a token, {whole:,.1f} MB at full length"


def _kernels_words(kernels: Mapping[str, Any]) -> str:
    runs = f"{kernels['name']} here" if kernels["name"] else f"not here: {kernels['reason']}"
    return f"{kernels['graph']}, {runs}; kv cache: {_cache_words(kernels['kv_cache'])}"


def _checked(edited: list[str]) -> str:
    """What was compared; settings that were edited were not."""
    but = f" but {', '.join(edited)}" if edited else ""
    return f"every file{but} has the manifest's sha256"


def _words(value: Any) -> str:
    """A value of the manifest in a line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_words(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return "; ".join(map(_words, value))
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _tensors(specs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """A row a tensor; those that differ in the layer's number alone share one."""
    alike = Counter(
        (re.sub(r"\.\d+\.", ".N.", name), f"{spec['dtype']} [{', '.join(map(str, spec['shape']))}]")
        for name, spec in specs.items()
    )
    return [
        (name, spec + (f", {count} layers" if count > 1 else ""))
        for (name, spec), count in alike.items()
    ]
