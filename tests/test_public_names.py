"""What `import gpt2onnx` gives, and that it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gpt2onnx

PUBLIC = [
    "Engine",
    "Evaluation",
    "Export",
    "Generation",
    "GenerationParams",
    "Gpt2OnnxError",
    "Handle",
    "Model",
    "Score",
    "Token",
    "__version__",
    "evaluate",
    "export",
    "load",
    "run_batch",
]
HEAVY = "{'numpy', 'onnx', 'onnxruntime', 'tokenizers', 'torch', 'transformers'}"


def python(code: str) -> None:
    """Run `code` in a fresh interpreter; it must end well."""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_public_names() -> None:
    assert gpt2onnx.__all__ == PUBLIC
    assert dir(gpt2onnx) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_resolves(name: str) -> None:
    value = getattr(gpt2onnx, name)
    assert name in ("__version__", "export") or value.__name__ == name


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="'gpt2onnx' has no attribute 'exprot'"):
        gpt2onnx.exprot  # noqa: B018


def test_importing_loads_nothing_heavy() -> None:
    python(f"import sys, gpt2onnx; assert not {HEAVY} & sys.modules.keys(), sys.modules.keys()")


def test_the_errors_and_the_version_load_nothing_heavy() -> None:
    python(
        "import sys; from gpt2onnx import Gpt2OnnxError, __version__; import gpt2onnx.errors; "
        f"assert not {HEAVY} & sys.modules.keys()"
    )


def test_the_runtime_loads_nothing_that_only_the_export_needs() -> None:
    python(
        "import sys; from gpt2onnx import load, Model, GenerationParams; "
        "assert not {'onnx', 'onnxruntime', 'torch', 'transformers'} & sys.modules.keys()"
    )


@pytest.mark.parametrize("module", ["gpt2onnx.models", "gpt2onnx.cli.commands.generate"])
def test_most_is_imported_while_a_model_is_opened(module: str) -> None:
    python(
        f"import sys, {module}; "
        "rest = {'gpt2onnx.runtime.model', 'gpt2onnx.samplers.chain.sampler'}; "
        "assert not rest & sys.modules.keys(), rest & sys.modules.keys()"
    )


@pytest.mark.parametrize("before", ["gpt2onnx", "gpt2onnx.export.checkpoint.config"])
def test_export_is_the_function_whatever_was_imported_before(before: str) -> None:
    python(
        f"import {before}, gpt2onnx\n"
        "try: gpt2onnx.export('no such folder', 'out', precision='none')\n"
        "except gpt2onnx.Gpt2OnnxError as error: assert 'none' in str(error)\n"
        "else: raise AssertionError"
    )


def test_every_error_is_one_of_the_tree() -> None:
    errors = vars(gpt2onnx.errors).values()
    classes = [e for e in errors if isinstance(e, type) and issubclass(e, Exception)]
    mine = [e for e in classes if not issubclass(e, Warning)]
    assert len(mine) > 15
    for error in mine:
        assert issubclass(error, gpt2onnx.Gpt2OnnxError)
        assert f"── {error.__name__} " in gpt2onnx.errors.__doc__ or error.__mro__[1] is Exception
        assert error.exit_status in (1, 2)
