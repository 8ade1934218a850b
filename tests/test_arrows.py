"""The architecture's arrows, held by parsing every import: at the top of a module or in a function.

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

# What each part may import of the others; "gpt2onnx" is the package's own __init__.
ARROWS = {
    "errors": set(),
    "paths": {"errors"},
    "staging": set(),
    "files": {"errors"},
    "flags": {"errors"},
    "export_digest": set(),
    "agreement": set(),
    "samplers": {"errors", "flags"},
    "tokenizer": {"errors", "files"},
    "runtime": {"errors", "files", "flags", "paths", "samplers", "staging", "tokenizer"},
    "export": {"errors", "export_digest", "files", "flags", "paths", "staging", "tokenizer"},
    "demo": {"errors", "paths", "export", "export_digest"},
    "models": {"errors", "files", "demo", "runtime"},
    "reference": {"errors", "demo", "models", "runtime", "export"},
    "evaluation": {
        *("errors", "agreement", "models", "reference", "runtime", "samplers", "tokenizer"),
    },
    "doctor": {"gpt2onnx", "errors", "paths", "runtime"},
    "kept": {"errors", "files", "paths", "runtime", "staging"},
    "compare": {
        *("gpt2onnx", "errors", "files", "agreement", "page", "runtime", "staging", "tokenizer"),
    },
    "page": set(),
    "cli": {
        *("gpt2onnx", "errors", "files", "flags", "paths", "agreement", "samplers", "runtime"),
        *("demo", "export", "models", "reference", "evaluation", "doctor", "kept", "compare"),
        *("page", "server", "serving", "staging", "tokenizer"),
    },
    "serving": {"errors", "models", "runtime", "samplers"},
    "server": {
        *("gpt2onnx", "errors", "files", "models", "page", "runtime", "samplers", "serving"),
        "tokenizer",
    },
    "gpt2onnx": {"errors", "export"},
    "__main__": {"cli"},
}
THIRD_PARTY = {
    "samplers": {"numpy"},
    "tokenizer": {"tokenizers"},
    "runtime": {"numpy", "tokenizers"},
    "agreement": {"numpy"},
    "evaluation": {"numpy"},
    "doctor": {"numpy"},
    "compare": {"numpy", "tokenizers"},
    "serving": {"numpy"},
    "server": {
        *("anyio", "jinja2", "msgspec", "prometheus_client", "starlette", "tokenizers"),
        *("uvicorn", "numpy"),
    },
    "export": {
        *("numpy", "onnx", "safetensors", "huggingface_hub", "tokenizers", "tqdm"),
        *("torch", "transformers", "optimum", "onnxruntime"),
    },
}
# Modules that may import more than their part.
MORE_ARROWS = {
    "gpt2onnx.export.verification.verify": {"runtime", "agreement"},
    "gpt2onnx.export.cached": {"gpt2onnx"},
    "gpt2onnx.export.checkpoint.generation_settings": {"samplers"},
}
MORE_THIRD_PARTY = {
    "gpt2onnx.runtime.ort.session": {"onnxruntime"},
    "gpt2onnx.runtime.structured.grammars": {"llguidance"},
    "gpt2onnx.runtime.structured.json_patterns": {"llguidance"},
    "gpt2onnx.runtime.ort.kernels": {"gpt2onnx_kernels"},
}
# Imported where they are used, since exporting works without.
IN_FUNCTIONS_ONLY = {
    "torch",
    "transformers",
    "optimum",
    "onnxruntime",
    "llguidance",
    "gpt2onnx_kernels",
}
NO_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


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
    """A module's tree, without what only a type checker reads."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree


def imported(module: str) -> set[str]:
    package = module if modules()[module].name == "__init__.py" else module.rpartition(".")[0]
    return set(imports(parsed(module), package))


def part(module: str) -> str:
    """The part that a module of ours belongs to: the first name behind the package's."""
    names = module.split(".")
    return names[1] if len(names) > 1 else PACKAGE


def is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


@pytest.mark.parametrize("module", modules())
def test_arrows_between_parts(module: str) -> None:
    allowed = ARROWS[part(module)] | MORE_ARROWS.get(module, set()) | {part(module)}
    reached = {part(name) for name in imported(module) if is_ours(name)}
    assert reached <= allowed, f"{module} imports {reached - allowed}"


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
from . import turns
from .results import Token
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
            "gpt2onnx.runtime.results",
            "gpt2onnx.runtime.turns",
        ),
        *("e", "h", "i"),
    }
