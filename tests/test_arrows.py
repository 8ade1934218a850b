"""The architecture's arrows, held by parsing every import, those for a type checker included.

cli -> compare -> runtime -> samplers -> numpy
cli -> export; export and runtime meet at the model folder on disk, and open its tokenizer alike
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import gpt2onnx

PACKAGE = "gpt2onnx"
ROOT = Path(gpt2onnx.__file__).parent

# Every room, and what it may import of the others: rooms that stand above it in this table. A file
# or package of gpt2onnx is a room. A package with wings is several: "export/graph" is a wing,
# "export/*" are the files beside the wings, and "export" is the package's face, its __init__, which
# nobody inside imports. Where the files beside the wings stand among them is each package's choice.
# From outside, a package is named as a whole.
ARROWS = {
    "errors": "",
    "paths": "errors",
    "files": "errors",
    "flags": "errors",
    "staging": "",
    "export_digest": "",
    "agreement": "",
    "page": "",
    "tokenizer": "errors files",
    # Files below the wings: pure functions of logits.
    "samplers/*": "errors",
    "samplers/params": "errors flags samplers/*",
    "samplers/chain": "errors samplers/* samplers/params",
    "samplers/beam": "errors samplers/* samplers/params samplers/chain",
    "samplers": "samplers/* samplers/params samplers/chain samplers/beam",
    # Files above the wings, which they open and put together; profiling is their user.
    "runtime/machine": "errors",
    "runtime/folder": "errors files paths runtime/machine",
    "runtime/ort": "errors files flags paths staging runtime/machine runtime/folder",
    "runtime/decoder": "errors samplers runtime/machine runtime/ort",
    "runtime/structured": "errors flags samplers tokenizer runtime/decoder",
    "runtime/text": "errors flags samplers tokenizer runtime/decoder",
    "runtime/decoding": (
        "errors files flags samplers tokenizer runtime/decoder runtime/structured runtime/text"
    ),
    "runtime/engine": (
        "errors files staging runtime/machine runtime/folder runtime/ort runtime/decoder "
        "runtime/decoding"
    ),
    "runtime/*": (
        "errors flags samplers tokenizer runtime/machine runtime/folder runtime/ort "
        "runtime/decoder runtime/structured runtime/text runtime/decoding runtime/engine"
    ),
    "runtime/profiling": (
        "errors flags staging runtime/machine runtime/folder runtime/ort runtime/decoder runtime/*"
    ),
    "runtime": "",
    # Files above the wings: the export, and what is exported once.
    "export/checkpoint": "errors files samplers tokenizer",
    "export/writing": "errors staging export/checkpoint",
    "export/calibration": "errors files tokenizer export/checkpoint export/writing",
    "export/quantization": "errors flags export/checkpoint export/writing export/calibration",
    "export/graph": (
        "errors flags export/checkpoint export/writing export/calibration export/quantization"
    ),
    "export/verification": (
        "agreement errors flags runtime tokenizer export/checkpoint export/writing "
        "export/quantization"
    ),
    "export/runtimes": (
        "errors files flags export/checkpoint export/writing export/quantization export/graph "
        "export/verification"
    ),
    "export/*": (
        "errors export_digest files flags paths export/checkpoint export/writing "
        "export/calibration export/quantization export/graph export/verification export/runtimes"
    ),
    "export": "errors export/*",
    "demo": "export export_digest paths",
    "models": "demo errors files runtime",
    "reference": "demo errors export models runtime",
    "evaluation": "agreement errors flags models reference runtime samplers tokenizer",
    "serving": "errors flags models runtime samplers",
    "smaller": "errors export files flags models serving staging tokenizer",
    "gpt2onnx": "errors evaluation export models runtime samplers serving",
    "server": "errors files flags gpt2onnx page runtime samplers serving tokenizer",
    "batch": "demo errors files gpt2onnx models paths runtime samplers server serving staging",
    "doctor": "errors gpt2onnx paths runtime",
    "kept": "errors files paths runtime staging",
    # Files above the wings that measure and record, and below that which reports.
    "compare/record": "errors flags runtime",
    "compare/measure": "agreement errors flags runtime tokenizer compare/record",
    "compare/runtimes": "errors runtime compare/record compare/measure",
    "compare/*": ("errors flags runtime staging compare/record compare/measure compare/runtimes"),
    "compare/report": "errors flags page compare/record",
    "compare": "",
    # Files below the wings: what every command stands on. The face runs the commands by name.
    "cli/*": "errors staging",
    "cli/options": "compare demo errors files flags models runtime samplers cli/*",
    "cli/output": "compare errors files flags page samplers staging cli/*",
    "cli/commands": (
        "batch compare demo doctor errors evaluation export flags gpt2onnx kept models page paths "
        "reference runtime samplers server serving smaller tokenizer cli/* cli/options cli/output"
    ),
    "cli": "gpt2onnx cli/*",
    "__main__": "cli",
}
# What most rooms stand on: naming it where nothing needs it any more does no harm.
GROUND = {"errors", "files", "flags"}
THIRD_PARTY = {
    "samplers": {"numpy"},
    "tokenizer": {"tokenizers"},
    "runtime": {"numpy", "tokenizers"},
    "agreement": {"numpy"},
    "evaluation": {"numpy"},
    "doctor": {"numpy"},
    "smaller": {"numpy", "tokenizers", "torch"},
    "compare": {"numpy", "tokenizers"},
    "serving": {"numpy"},
    "server": {
        *("anyio", "jinja2", "msgspec", "prometheus_client", "starlette", "tokenizers"),
        *("uvicorn", "numpy"),
    },
    "batch": {"msgspec", "numpy", "ray", "starlette", "zstandard"},
    "export": {
        *("numpy", "onnx", "safetensors", "huggingface_hub", "tokenizers", "tqdm"),
        *("torch", "transformers", "optimum", "onnxruntime"),
    },
}
MORE_THIRD_PARTY = {
    "gpt2onnx.runtime.ort.library": {"onnxruntime"},
    "gpt2onnx.runtime.structured.grammars": {"llguidance"},
    "gpt2onnx.runtime.structured.json_patterns": {"llguidance"},
    "gpt2onnx.runtime.ort.kernels": {"gpt2onnx_kernels"},
    # Run by interpreters that have one of them.
    "gpt2onnx.compare.runtimes.programs.greedy": {
        *("onnx", "onnxruntime", "onnxruntime_genai", "openvino", "optimum", "torch", "tract"),
    },
}
# Imported where they are used, since exporting works without.
IN_FUNCTIONS_ONLY = {
    "torch",
    "transformers",
    "optimum",
    "onnxruntime",
    "llguidance",
    "gpt2onnx_kernels",
    "zstandard",
}
NO_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """The dotted names that a module of `package` imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join(
                [*(above if node.level else ()), *([node.module] if node.module else ())]
            )
            yield from (_member(base, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import_call(node.func):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def _member(base: str, name: str) -> str:
    """`base.name` where that is a module of ours, else `base`."""
    return f"{base}.{name}" if f"{base}.{name}" in modules() else base


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imported(module: str) -> set[str]:
    package = module if modules()[module].name == "__init__.py" else module.rpartition(".")[0]
    return set(imports(parsed(module), package))


def part(module: str) -> str:
    """The first name behind the package's, of a module of ours."""
    names = module.split(".")
    return names[1] if len(names) > 1 else PACKAGE


def room(module: str) -> str:
    """The row of a module of ours in the table."""
    own, inside = part(module), module.split(".")[2:]
    if not inside or f"{own}/*" not in ARROWS:
        return own
    return f"{own}/{inside[0] if (ROOT / own / inside[0]).is_dir() else '*'}"


def rooms_of(module: str) -> set[str]:
    """The rows that a module imports, but for its own; another package's as a whole."""
    reached = [name for name in imported(module) if is_ours(name)]
    inside = part(module)
    return {room(n) if part(n) == inside else part(n) for n in reached} - {room(module)}


def is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


@pytest.mark.parametrize("module", modules())
def test_arrows_between_rooms(module: str) -> None:
    allowed = set(ARROWS[room(module)].split())
    assert rooms_of(module) <= allowed, f"{module} imports {rooms_of(module) - allowed}"


@pytest.mark.parametrize("row", ARROWS)
def test_the_table_says_what_there_is(row: str) -> None:
    """Arrows point to rows above, and none of them has gone but for those to the ground floor."""
    above = list(ARROWS)[: list(ARROWS).index(row)]
    named = ARROWS[row].split()
    there = {arrow for module in modules() if room(module) == row for arrow in rooms_of(module)}
    assert not [each for each in named if each not in above]
    assert there - GROUND == {*named} - GROUND


@pytest.mark.parametrize("module", modules())
def test_third_parties(module: str) -> None:
    allowed = THIRD_PARTY.get(part(module), set()) | MORE_THIRD_PARTY.get(module, set())
    if part(module) == "cli":
        allowed = set().union(*THIRD_PARTY.values())
    tops = {name.split(".")[0] for name in imported(module) if not is_ours(name)}
    assert tops <= allowed | sys.stdlib_module_names


@pytest.mark.parametrize("module", modules())
def test_heavy_packages_are_imported_where_they_are_used(module: str) -> None:
    top_level = ast.Module([node for node in parsed(module).body if _runs_at_import(node)], [])
    tops = {name.split(".")[0] for name in imports(top_level, module)}
    assert not tops & IN_FUNCTIONS_ONLY


def _runs_at_import(node: ast.stmt) -> bool:
    return not isinstance(node, ast.FunctionDef | ast.ClassDef)


def test_no_cycles() -> None:
    everything = modules()
    graph = {name: {i for i in imported(name) if i in everything} for name in everything}
    # A package's __init__ gathers what its modules define: nobody in it imports it back.
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", modules())
def test_names_say_what_is_inside(module: str) -> None:
    assert not NO_NAMES & set(module.split("."))


def test_imports_are_found_wherever_they_are() -> None:
    source = """
import a.b
from c import d
from gpt2onnx import errors
from . import open_model
from .call import Call
def f():
    from e import g
    importlib.import_module("h")
    if True:
        import i as j
"""
    assert set(imports(ast.parse(source), "gpt2onnx.runtime")) == {
        *(
            "a.b",
            "c",
            "gpt2onnx.errors",
            "gpt2onnx.runtime.open_model",
            "gpt2onnx.runtime.call",
        ),
        *("e", "h", "i"),
    }
