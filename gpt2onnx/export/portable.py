"""The same model through Optimum: a graph in standard ONNX operators, for any runtime.

Optimum traces transformers' own code; this says how, and portable_int8.py rounds the weights of
what it wrote. Knows Optimum's exporter; writes the graph and nothing else of the folder.
runtime/portable.py lists the graph's inputs and outputs.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt2onnx.errors import InstallationError, UnsupportedConfigError
from gpt2onnx.export.checkpoint import PREFIX, Checkpoint, Weights
from gpt2onnx.export.portable_int8 import quantize
from gpt2onnx.export.torch_model import load_model

PRECISIONS = ("fp32", "int8")
MODEL = "model.onnx"
TRACED_DATA = "model.onnx_data"  # Optimum's name for the weights of a model beyond 2 GB
EMBEDDING = f"{PREFIX}wte.weight"
MIN_POSITIONS = 4
NEEDS = ("torch", "optimum.exporters.onnx")


def export_portable(checkpoint: Checkpoint, weights: Weights, folder: Path, precision: str) -> None:
    """Write a checkpoint's graph with these weights as `folder`/model.onnx.

    precision: fp32, with a data file beside the graph beyond 2 GB; or int8, always with one.
    Errors: UnsupportedConfigError for any other, and for a model of less than 4 positions;
    InstallationError where Optimum is missing; WeightsError.
    """
    if precision not in PRECISIONS:
        raise UnsupportedConfigError(
            f"precision={precision!r}: through Optimum there are {' and '.join(PRECISIONS)}; "
            "the fused graph has the others"
        )
    if checkpoint.config.n_positions < MIN_POSITIONS:
        raise UnsupportedConfigError(
            f"config.json: n_positions {checkpoint.config.n_positions} is too small to be traced, "
            f"which takes {MIN_POSITIONS}; the fused graph takes any"
        )
    with _quiet():
        _require_packages()
        model = load_model(checkpoint, weights)
        trace(model, folder / MODEL)
        if precision == "int8":
            quantize(folder / MODEL, folder / TRACED_DATA, EMBEDDING)
        elif model.config.tie_word_embeddings:
            tie_head(folder)


def trace(model: Any, path: Path) -> None:
    """Export a GPT2LMHeadModel with a past, as Optimum's task text-generation-with-past does."""
    from optimum.exporters.onnx import export
    from optimum.exporters.onnx.model_configs import GPT2OnnxConfig

    config = GPT2OnnxConfig(
        model.config, task="text-generation", use_past=True, use_past_in_inputs=True
    )
    # Two tokens on top of a past of two: Optimum's own sixteen on sixteen need 32 positions, and of
    # one alone it says that the graph may be wrong for more.
    export(model, config, path, input_shapes={"sequence_length": MIN_POSITIONS // 2})


def tie_head(folder: Path) -> None:
    """Let the head read the embedding table, which tracing has stored a second time, transposed."""
    import onnx

    path, data = folder / MODEL, folder / TRACED_DATA
    model = onnx.load(path)
    head = next(node for node in model.graph.node if "logits" in node.output)
    for copy in [tensor for tensor in model.graph.initializer if tensor.name in head.input]:
        model.graph.initializer.remove(copy)
        transpose = onnx.helper.make_node("Transpose", [EMBEDDING], [copy.name], perm=[1, 0])
        model.graph.node.insert(0, transpose)
    beside = data.exists()
    data.unlink(missing_ok=True)  # onnx would append to it
    onnx.save_model(model, path, save_as_external_data=beside, location=data.name)


def _require_packages() -> None:
    for module in NEEDS:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InstallationError(
                f"the portable graph is made by {module}, which can't be imported ({error}): "
                "pip install 'gpt2onnx[optimum]'"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop the warnings and log lines of tracing; what fails raises."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
