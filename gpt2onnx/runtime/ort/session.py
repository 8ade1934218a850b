"""Opens an ONNX model on an execution provider, and proves where it runs.

The only file of the runtime that imports onnxruntime, and it does so inside functions, so that
importing gpt2onnx stays cheap. It knows files, providers and the types of tensors; nothing of
caches, tokens or GPT-2.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from gpt2onnx.errors import (
    InstallationError,
    ModelFolderError,
    ParameterError,
    ProviderError,
    shown,
)
from gpt2onnx.runtime.load_params import check_load
from gpt2onnx.runtime.machine.background import Background
from gpt2onnx.runtime.machine.threads import default_threads
from gpt2onnx.runtime.ort.errors import explained, failed, out_of_memory
from gpt2onnx.runtime.ort.installation import (
    cuda_obstacle,
    preload_cuda,
    replacement,
    require_onnxruntime,
)
from gpt2onnx.runtime.ort.packing import packing_settings, saving_settings

if TYPE_CHECKING:
    from gpt2onnx.runtime.ort.startup_cache import StartupCache

Model: TypeAlias = str | Path | bytes
SUFFIX = "ExecutionProvider"
# A run's gpu_graph_id: without one, ONNX Runtime would capture the first runs and replay them.
NO_GRAPH = -1
CPU, CUDA = f"CPU{SUFFIX}", f"CUDA{SUFFIX}"

# What a session's binding calls the memory of a provider; every other one takes the CPU's.
DEVICE_TYPES = {
    CUDA: "cuda",
    "TensorrtExecutionProvider": "cuda",
    "NvTensorRTRTXExecutionProvider": "cuda",
    "DmlExecutionProvider": "dml",
    "CANNExecutionProvider": "cann",
    "WebGpuExecutionProvider": "webgpu",
}
# fp32 products in TF32, ONNX Runtime's own default from Ampere on, keep ten bits of the mantissa:
# https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html (use_tf32).
DEFAULT_OPTIONS: Mapping[str, Mapping[str, str]] = {CUDA: {"use_tf32": "0"}}
# On the CPU the fused kernel makes prompts 1.15 times as slow in fp32 (docs/notes/graph.md).
SLOW_FUSIONS = ["SkipLayerNormFusion"]
# Where packing.py asks for unsigned weights, this gives DequantizeLinear of blocks a zero point of
# the wrong rank, at which the run then fails.
BROKEN_FUSIONS = ["QDQS8ToU8Transformer"]
# How long a thread spins for work before it sleeps. ONNX Runtime's own default outlasts the sampler
# and a run of another model: two at once took 2.5 times as long (docs/notes/ort.md). Between
# operators of one run 20 us are enough.
SPIN_US = 20

# How much is logged outside of sessions, in ONNX Runtime's numbers; the last is its default.
LOG_FATAL, LOG_ERRORS, LOG_WARNINGS = 4, 3, 2

# Element types that numpy has as well, by ONNX Runtime's name.
SAME = "bool float16 int8 int16 int32 int64 uint8 uint16 uint32 uint64"
DTYPES = {"float": "float32", "double": "float64", **{name: name for name in SAME.split()}}


class TensorSpec(NamedTuple):
    """A graph's input or output: element type, and shape with a name where the size is free."""

    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]


class Profiler(NamedTuple):
    """What ONNX Runtime's profiler is to do: files' beginning, and whether matrices are packed.

    Of a packed matrix, as usual and fast, the record doesn't tell the size.
    """

    prefix: Path
    packed: bool = True


@dataclass(frozen=True)
class Session:
    """An open model. `raw` runs it; the rest says what it takes and where it runs.

    `provider` is the short name ("cpu", "cuda"), `device_type` and `device_id` are for
    `io_binding().bind_input`, `choice` says in a sentence what was chosen and why, and `startup`
    what came of the start-up cache ("used", "made", "not used: …").
    """

    raw: Any
    provider: str
    device_type: str
    device_id: int
    choice: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    startup: str = "not used"
    captures: bool = False  # whether runs may be captured as CUDA graphs

    def run(self, binding: Any, graph: int = NO_GRAPH) -> None:
        """Run on what is bound; with a `graph`, as the CUDA graph of that number.

        A number's first run is captured, and repeated for it: later ones replay it, on the same
        addresses and shapes. Without a number nothing is captured. Raises OutOfMemoryError;
        ModelFolderError, ProviderError where the graph can't be run so.
        """
        options = _run_options(graph) if self.captures else None
        try:
            self.raw.run_with_iobinding(binding, options)
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise failed(error, self.provider) from error

    def allocate(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """An onnxruntime.OrtValue of `shape` in the memory of the session's device, not cleared.

        Raises OutOfMemoryError.
        """
        try:
            return _onnxruntime().OrtValue.ortvalue_from_shape_and_type(
                list(shape), dtype, self.device_type, self.device_id
            )
        except Exception as error:  # as above
            if full := out_of_memory(error, self.provider):
                raise full from error
            raise


def open_session(
    model: Model,
    provider: str = "auto",
    provider_options: Mapping[str, object] | None = None,
    threads: int | None = None,
    startup_cache: StartupCache | None = None,
    meanwhile: Callable[[], object] | None = None,
    profiler: Profiler | None = None,
    operators: Path | None = None,
) -> Session:
    """Open a model, a file or its bytes, on a provider: "auto", "cpu", "cuda" or another built in.

    "auto" is CUDA where it really runs this model, else the CPU. `provider_options` are the named
    provider's own; CUDA's `use_tf32` is 0 unless they say otherwise. `threads` are for one operator
    on the CPU, by default one a physical core that the process may use. `startup_cache` is the
    model's, and of use on the CPU alone. `meanwhile` is called while ONNX Runtime is at work, once
    or more. With a `profiler` the session's `raw.end_profiling()` gives the file with its record.
    `operators` is a library of custom ones that the model wants.

    Raises ProviderError where the provider can't run here or leaves this model's work to the CPU,
    CorruptModelError or ModelFolderError where the model is at fault, ParameterError for options
    that are unknown or would have no effect, InstallationError for ONNX Runtime itself.
    """
    check_load(provider, provider_options, threads)
    name = _provider_name(provider)
    _check(name, provider_options)
    if isinstance(model, str | Path) and not Path(model).is_file():
        raise ModelFolderError(f"{model}: there is no such file, expected an ONNX model")
    how = _How(
        name,
        provider_options or {},
        threads,
        "as asked",
        startup_cache,
        meanwhile,
        profiler,
        operators,
    )
    if name != "auto":
        return _open(model, how)
    try:
        return _open(model, replace(how, name=CUDA, reason="chosen because it runs here"))
    except ProviderError as error:
        return _open(model, replace(how, name=CPU, reason=f"chosen because {error}"))


def available_providers() -> tuple[str, ...]:
    """The providers built into the installed ONNX Runtime, ONNX Runtime's names; not what runs."""
    return tuple(_onnxruntime().get_available_providers())


def known_provider(provider: str) -> str:
    """A named provider's short name, whether or not it runs here. Raises ProviderError."""
    return short_name(_provider_name(provider))


def require_provider(provider: str) -> None:
    """Raise ProviderError, with the reason, if a named provider can't run here."""
    _require_provider(_onnxruntime(), _provider_name(provider))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Meanwhile ONNX Runtime logs nothing by itself: for one who shows the errors that it raises.

    A session's own log is left as it is.
    """
    ort = _onnxruntime()
    ort.set_default_logger_severity(LOG_FATAL)
    try:
        yield
    finally:
        ort.set_default_logger_severity(LOG_WARNINGS)


def short_name(provider: str) -> str:
    """ "cuda" for "CUDAExecutionProvider"."""
    return provider.removesuffix(SUFFIX).lower()


def device_of(provider: str) -> str:
    """What a model that a provider runs is exported for: "cuda" or "cpu"."""
    return "cuda" if short_name(provider) == "cuda" else "cpu"


@cache
def _onnxruntime() -> Any:
    package = require_onnxruntime()
    try:
        import onnxruntime
    except ImportError as error:  # a system library, or a module of another Python
        raise InstallationError(f"{package or 'onnxruntime'} can't be imported: {error}") from error
    return onnxruntime


def _provider_name(provider: str) -> str:
    """ONNX Runtime's name of a provider, with or without its suffix and in any case; or "auto"."""
    wanted = provider.lower().removesuffix(SUFFIX.lower())
    if wanted == "auto":
        return "auto"
    names: list[str] = _onnxruntime().get_all_providers()
    known = {short_name(name): name for name in names}
    if wanted not in known:
        here = ", ".join(map(short_name, available_providers()))
        raise ProviderError(f"unknown provider {shown(provider)}: this ONNX Runtime has {here}")
    return known[wanted]


def _check(name: str, options: Mapping[str, object] | None) -> None:
    if options and name == "auto":
        raise ParameterError(
            "provider_options belong to one provider: name it, got provider='auto'"
        )
    if options and name == CPU:
        raise ParameterError(f"the CPU provider has no options, got {', '.join(options)}")


@dataclass(frozen=True)
class _How:
    """What `open_session` was asked for, on the provider that it has come to."""

    name: str
    options: Mapping[str, object]
    threads: int | None
    reason: str
    startup_cache: StartupCache | None
    meanwhile: Callable[[], object] | None
    profiler: Profiler | None
    operators: Path | None


def _open(model: Model, how: _How) -> Session:
    ort = _onnxruntime()
    _require_provider(ort, how.name)
    if how.startup_cache is None or how.name != CPU:
        return _create(model, how)
    runtime = {
        "onnxruntime": [ort.__version__, ort.get_build_info()],
        "settings": [packing_settings(), _disabled_optimizers()],
    }
    return how.startup_cache.open(partial(_create, how=how), runtime)


def _create(
    model: Model, how: _How, *, save_to: Path | None = None, optimised: bool = False
) -> Session:
    """Open a model; `save_to` keeps it optimised and packed, to be opened `optimised` later."""
    ort, name = _onnxruntime(), how.name
    own = {key: str(value) for key, value in how.options.items()}
    given = {**DEFAULT_OPTIONS.get(name, {}), **own}
    # Without enable_fallback=0 a provider's failure is printed, and the CPU opened instead.
    opening = Background(
        partial(
            ort.InferenceSession,
            model,
            _session_options(ort, how, save_to, optimised),
            [(name, given)],
            enable_fallback=0,
            disabled_optimizers=_disabled_optimizers() if name == CPU and not optimised else None,
        )
    )
    try:
        if how.meanwhile:
            how.meanwhile()
    finally:
        opening.wait()
    try:
        raw = opening.result()
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise explained(error, model, short_name(name), ort.__version__) from error
    return Session(
        raw,
        short_name(name),
        DEVICE_TYPES.get(name, "cpu"),
        int(given.get("device_id", 0)) if name in DEVICE_TYPES else 0,
        f"{short_name(name)}, {how.reason}{_proof(raw, name)}",
        _specs(raw.get_inputs()),
        _specs(raw.get_outputs()),
        captures=name == CUDA and given.get("enable_cuda_graph", "0").lower() in ("1", "true"),
    )


def _disabled_optimizers() -> list[str]:
    """What ONNX Runtime is not to do to a graph on the CPU."""
    return [*SLOW_FUSIONS, *BROKEN_FUSIONS]


@lru_cache
def _run_options(graph: int) -> Any:
    options = _onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return options


def _require_provider(ort: Any, name: str) -> None:
    """Raise ProviderError, with the reason, if this provider can't run here."""
    short = short_name(name)
    if name not in ort.get_available_providers():
        package = f"{ort.package_name} {ort.__version__}"
        here = ", ".join(map(short_name, ort.get_available_providers()))
        raise ProviderError(
            f"{short} can't run here: {package} is built with {here}"
            + (f" ({replacement(ort.package_name)})" if short == "cuda" else "")
        )
    if short != "cuda":
        return
    preload_cuda(ort)
    capi = Path(ort.__file__).parent / "capi"
    if obstacle := cuda_obstacle(capi, ort.cuda_version):
        raise ProviderError(f"cuda can't run here: {obstacle}")


def _session_options(ort: Any, how: _How, save_to: Path | None, optimised: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = how.threads or default_threads()
    options.inter_op_num_threads = 1
    # Errors only, and none on the CPU, where each of them is raised.
    options.log_severity_level = LOG_FATAL if how.name == CPU else LOG_ERRORS
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    entries = packing_settings() | (saving_settings(save_to) if save_to else {})
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    if save_to:
        options.optimized_model_filepath = str(save_to)
    if optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if how.operators:
        options.register_custom_ops_library(str(how.operators))
    if how.profiler:
        options.enable_profiling, options.profile_file_prefix = True, str(how.profiler.prefix)
        if not how.profiler.packed:
            options.add_session_config_entry("session.disable_prepacking", "1")
    if how.name != CPU:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _proof(raw: Any, name: str) -> str:
    """Say how many nodes the provider took; raise ProviderError if the work stayed on the CPU.

    `session.disable_cpu_ep_fallback` would refuse good models too: ONNX Runtime itself leaves nodes
    that compute shapes to the CPU. So the nodes are counted after opening, and a matrix product or
    an attention on the CPU is refused: there a transformer's time goes.
    """
    if name == CPU:
        return ""
    short = short_name(name)
    if name not in raw.get_providers():
        raise ProviderError(f"{short} can't run here: ONNX Runtime left it out, and logged why")
    nodes = Counter(
        (part.ep_name == name, node.op_type)
        for part in raw.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    )
    taken = sum(count for (mine, _), count in nodes.items() if mine)
    left = {op: count for (mine, op), count in sorted(nodes.items()) if not mine}
    if not taken:
        raise ProviderError(f"{short} takes none of the {nodes.total()} nodes of this model")
    if work := [op for op in left if any(part in op for part in ("MatMul", "Gemm", "Attention"))]:
        made = "`gpt2onnx export --device cuda`" if name == CUDA else "`export --graph portable`"
        raise ProviderError(
            f"{short} can't run this model: it leaves {', '.join(work)} to the CPU; use one of "
            f"{made}, or provider='cpu'"
        )
    rest = ", ".join(f"{count} {op}" for op, count in left.items())
    return f": {taken} of {nodes.total()} nodes" + (f", on the CPU {rest}" if rest else "")


def _specs(nodes: Any) -> dict[str, TensorSpec]:
    return {node.name: _spec(node) for node in nodes}


def _spec(node: Any) -> TensorSpec:
    element = node.type.removeprefix("tensor(").removesuffix(")")
    if element not in DTYPES:
        raise ModelFolderError(
            f"{node.name} is a {node.type}: expected a tensor that numpy can hold"
        )
    shape = node.shape or ()  # nothing of a tensor that the graph gives no shape
    return TensorSpec(np.dtype(DTYPES[element]), tuple("?" if n is None else n for n in shape))
