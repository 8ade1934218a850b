"""How ONNX Runtime is told to open a model: threads, logs, packing, profiling.

Knows the names of ONNX Runtime's settings; opens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gpt2onnx.runtime.machine.threads import default_threads
from gpt2onnx.runtime.ort.kernels import DOMAIN
from gpt2onnx.runtime.ort.library import LOG_ERRORS, LOG_FATAL
from gpt2onnx.runtime.ort.packing import packing_settings, saving_settings
from gpt2onnx.runtime.ort.provider import Provider

# How long a thread spins for work before it sleeps. ONNX Runtime's own default outlasts the sampler
# and a run of another model: two at once took 2.5 times as long (docs/notes/ort.md). Between
# operators of one run 20 us are enough.
SPIN_US = 20


class Profiler(NamedTuple):
    """What ONNX Runtime's profiler is to do: files' beginning, and whether matrices are packed.

    Of a packed matrix, as usual and fast, the record doesn't tell the size.
    """

    prefix: Path
    packed: bool = True


@dataclass(frozen=True)
class Setup:
    """What a session is to have beside its provider's own options."""

    threads: int | None = None
    profiler: Profiler | None = None
    operators: Path | None = None  # a library of custom ones
    save_to: Path | None = None  # keep the model there, optimised and packed
    optimised: bool = False  # the model was kept so
    pack_to: Path | None = None  # the folder where the kernels keep the weights that they pack
    packed: Path | None = None  # the folder where they find them packed


def session_options(ort: Any, provider: Provider, setup: Setup) -> Any:
    """onnxruntime.SessionOptions, of the module `ort`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = setup.threads or default_threads()
    options.inter_op_num_threads = 1
    # Errors only, and none where each of them is raised.
    options.log_severity_level = LOG_FATAL if provider.runs_all else LOG_ERRORS
    for key, value in _entries(provider, setup).items():
        options.add_session_config_entry(key, value)
    if setup.save_to:
        options.optimized_model_filepath = str(setup.save_to)
    if setup.optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if setup.operators:
        options.register_custom_ops_library(str(setup.operators))
    if setup.profiler:
        options.enable_profiling = True
        options.profile_file_prefix = str(setup.profiler.prefix)
    return options


def _entries(provider: Provider, setup: Setup) -> dict[str, str]:
    entries = {"session.intra_op.spin_duration_us": str(SPIN_US), **packing_settings()}
    if setup.save_to:
        entries |= saving_settings(setup.save_to)
    for name in ("pack_to", "packed"):
        if folder := getattr(setup, name):
            entries[f"{DOMAIN}.{name}"] = str(folder)
    if setup.profiler and not setup.profiler.packed:
        entries["session.disable_prepacking"] = "1"
    if not provider.runs_all:
        entries["session.record_ep_graph_assignment_info"] = "1"
    return entries
