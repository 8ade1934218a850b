"""Opens an ONNX model on an execution provider.

It knows files, providers and the types of tensors; nothing of caches, tokens or GPT-2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gpt2onnx.errors import Given, ModelFolderError, ParameterError, ProviderError
from gpt2onnx.runtime.machine.background import Background
from gpt2onnx.runtime.ort import library
from gpt2onnx.runtime.ort.assignment import assignment
from gpt2onnx.runtime.ort.errors import explained, failed, out_of_memory, unfit
from gpt2onnx.runtime.ort.load_params import check_load
from gpt2onnx.runtime.ort.plugins import described, options_of
from gpt2onnx.runtime.ort.provider import (
    AUTO,
    PREFERRED,
    Provider,
    find_provider,
    short_name,
)
from gpt2onnx.runtime.ort.session_options import Profiler, Setup, session_options

Model: TypeAlias = str | Path | bytes
# A run's gpu_graph_id: without one, ONNX Runtime would capture the first runs and replay them.
NO_GRAPH = -1

# Element types that numpy has as well, by ONNX Runtime's name.
SAME = "bool float16 int8 int16 int32 int64 uint8 uint16 uint32 uint64"
DTYPES = {"float": "float32", "double": "float64", **{name: name for name in SAME.split()}}


class TensorSpec(NamedTuple):
    """A graph's input or output: element type, and shape with a name where the size is free."""

    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Session:
    """An open model. `raw` runs it; the rest says what it takes and where it runs.

    `choice` says in a sentence what was chosen and why, and `startup` what came of the start-up
    cache ("used", "made", "not used: …").
    """

    raw: Any
    runs_on: Provider
    device_id: int
    choice: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    startup: str = "not used"
    captures: bool = False  # whether runs may be captured as CUDA graphs
    file: Path | None = None  # the model's, or none where its bytes were given

    @property
    def provider(self) -> str:
        """The provider's short name: "cpu", "cuda"."""
        return self.runs_on.short

    @property
    def device_type(self) -> str:
        """Where it computes, for `io_binding().bind_input`, with `device_id`."""
        return self.runs_on.device_type

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
            raise failed(error, self.runs_on, self.file) from error

    def allocate(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """An onnxruntime.OrtValue of `shape` in the memory of the session's device, not cleared.

        Raises OutOfMemoryError.
        """
        try:
            return library.onnxruntime().OrtValue.ortvalue_from_shape_and_type(
                list(shape), dtype, self.device_type, self.device_id
            )
        except Exception as error:  # as above
            if full := out_of_memory(error, self.provider):
                raise full from error
            raise

    def unfit(self, said: str, name: str | None = None) -> ModelFolderError:
        """What to raise where the graph isn't what is wanted of one: with its file before `said`.

        `name` is the input or output that is to blame.
        """
        return unfit(self.file, said, name)


@dataclass(frozen=True)
class How:
    """How a model is to be opened. `meanwhile` is called while ONNX Runtime is at work."""

    provider: Provider
    reason: str
    options: Mapping[str, object]
    setup: Setup
    meanwhile: Callable[[], object] | None


def create(model: Model, how: How) -> Session:
    """Open a model as told. Raises as `open_session`'s."""
    ort, provider = library.onnxruntime(), how.provider
    given = {**provider.default_options, **{k: str(v) for k, v in how.options.items()}}
    # What was optimised once is taken as it is.
    disabled = None if how.setup.optimised else list(provider.disabled_optimizers) or None
    options = session_options(ort, provider, how.setup)
    device = provider.plugin and provider.plugin.device(given)
    if device:
        options.add_provider_for_devices([device], options_of(given))
    # Without enable_fallback=0 a provider's failure is printed, and the CPU opened instead.
    opening = Background(
        partial(
            ort.InferenceSession,
            model,
            options,
            None if device else [(provider.name, given)],
            enable_fallback=0,
            disabled_optimizers=disabled,
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
        raise explained(error, model, provider, ort.__version__) from error
    file = None if isinstance(model, bytes) else Path(model)
    return Session(
        raw,
        provider,
        0 if provider.device_type == "cpu" else int(given.get("device_id", 0)),
        f"{_where(provider, device)}, {how.reason}{assignment(raw, provider)}",
        _specs(raw.get_inputs(), file),
        _specs(raw.get_outputs(), file),
        captures=_is_on(given, provider.capture_option),
        file=file,
    )


def open_session(
    model: Model,
    provider: str = AUTO,
    provider_options: Mapping[str, object] | None = None,
    threads: int | None = None,
    meanwhile: Callable[[], object] | None = None,
    profiler: Profiler | None = None,
    operators: Path | None = None,
    create: Callable[[Model, How], Session] = create,
) -> Session:
    """Open a model, a file or its bytes, on a provider: "auto", "cpu", "cuda" or another built in.

    "auto" is CUDA where it really runs this model, else the CPU. `provider_options` are the named
    provider's own; CUDA's `use_tf32` is 0 unless they say otherwise. `threads` are for one operator
    on the CPU, by default one a physical core that the process may use. `meanwhile` is called while
    ONNX Runtime is at work, once or more. With a `profiler` the session's `raw.end_profiling()`
    gives the file with its record. `operators` is a library of custom ones that the model wants.
    `create` makes the session once a provider is chosen, as the start-up cache does.

    Raises ProviderError where the provider can't run here or leaves this model's work to the CPU,
    CorruptModelError or ModelFolderError where the model is at fault, ParameterError for options
    that are unknown or would have no effect, InstallationError for ONNX Runtime itself.
    """
    check_load(provider, provider_options, threads)
    named = None if short_name(provider) == AUTO else find_provider(provider)
    _check_options(named, provider_options or {})
    if isinstance(model, str | Path) and not Path(model).is_file():
        raise ModelFolderError(
            f"{model}: there is no such file, expected an ONNX model", path=model
        )
    how = How(
        named or PREFERRED[0].as_installed(),
        "as asked" if named else "chosen because it runs here",
        provider_options or {},
        Setup(threads, profiler, operators),
        meanwhile,
    )
    try:
        how.provider.require()
        return create(model, how)
    except ProviderError as error:
        if named:
            raise
        other, reason = PREFERRED[1], f"chosen because {error}"
    other.require()
    return create(model, replace(how, provider=other, reason=reason))


def _where(provider: Provider, device: Any) -> str:
    if provider.plugin is None:
        return provider.short
    return f"{provider.short} ({described(provider.plugin, device)})"


def _check_options(named: Provider | None, options: Mapping[str, object]) -> None:
    """Raise ParameterError for options that would have no effect."""
    if options and named is None:
        raise ParameterError(
            Given("provider_options"),
            " belong to one provider: name it, got ",
            Given("provider", AUTO),
        )
    if options and named and not named.takes_options:
        raise ParameterError(
            f"the {named.short.upper()} provider has no options, got {', '.join(options)}"
        )


def _is_on(given: Mapping[str, str], option: str | None) -> bool:
    return option is not None and given.get(option, "0").lower() in ("1", "true")


@lru_cache
def _run_options(graph: int) -> Any:
    options = library.onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return options


def _specs(nodes: Any, file: Path | None) -> dict[str, TensorSpec]:
    return {node.name: _spec(node, file) for node in nodes}


def _spec(node: Any, file: Path | None) -> TensorSpec:
    element = node.type.removeprefix("tensor(").removesuffix(")")
    if element not in DTYPES:
        said = f"{node.name} is a {node.type}: expected a tensor that numpy can hold"
        raise unfit(file, said, node.name)
    shape = node.shape or ()  # nothing of a tensor that the graph gives no shape
    return TensorSpec(np.dtype(DTYPES[element]), tuple("?" if n is None else n for n in shape))
