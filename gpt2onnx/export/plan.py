"""What an export is asked for, decided and checked before a weight is read.

But for one thing: whether half precision holds the KV cache, weights tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from warnings import warn

from gpt2onnx.errors import Advised, Given, ParameterError, SettingsWarning, WeightsError
from gpt2onnx.export.graph import kernels as kernels_graph
from gpt2onnx.export.graph.fused import Extras
from gpt2onnx.export.graph.kinds import Recipe, choose_graph
from gpt2onnx.export.graph.kv_cache import KV_CACHES, beyond_half, check_kv_cache
from gpt2onnx.export.quantization.table import ATTENTION, DEVICES, PRECISIONS, those
from gpt2onnx.export.runtimes.targets import Place, Runtime, choose_runtime
from gpt2onnx.files import as_path, unicode_name
from gpt2onnx.flags import one_of


@dataclass(frozen=True)
class Plan:
    """A graph in a precision, for a device and a runtime. `calibration` is a file with a text."""

    precision: str
    graph: str
    device: str
    runtime: Runtime
    extras: Extras
    recipe: Recipe
    calibration: Path | None
    # Whether nobody asked for this KV cache: "auto".
    default_cache: bool = False

    @classmethod
    def of(
        cls,
        *,
        precision: str,
        graph: str | None,
        runtime: str,
        device: str,
        extras: Extras,
        calibration: str | Path | None,
    ) -> Plan:
        """Raises ParameterError for what there isn't, and for what doesn't go together."""
        one_of("precision", precision, PRECISIONS)
        one_of("device", device, DEVICES)
        auto = one_of("kv_cache", extras.kv_cache, KV_CACHES) == "auto"
        runs, graph = choose_runtime(runtime, graph)
        recipe = choose_graph(graph, precision, device, extras, runs.unpacks)
        text = None
        if calibration is not None:
            text = as_path(calibration, "calibration", ParameterError)
        plan = cls(precision, graph, device, runs, extras, recipe, text, default_cache=auto)
        if auto:
            plan = plan._with_cache("float16" if plan.rounds and plan.has_kernels else "float")
        check_kv_cache(plan.extras.kv_cache, graph, precision, device)
        plan._require_use_of_calibration()
        return plan

    def on(self, largest: Iterable[float]) -> Plan:
        """The plan with a KV cache that holds each layer's largest keys and values.

        Where half precision doesn't, "auto" becomes "float", of which a SettingsWarning tells;
        whoever asked for "float16" gets a WeightsError.
        """
        beyond = self.extras.kv_cache == "float16" and beyond_half(largest)
        if not beyond:
            return self
        if not self.default_cache:
            raise WeightsError(
                *(Given("kv_cache", "float16"), f": {beyond}; use ", Advised("kv_cache", "float"))
            )
        warn(f"{beyond}; the KV cache is 'float' instead", SettingsWarning, stacklevel=5)
        return self._with_cache("float")

    def _with_cache(self, kv_cache: str) -> Plan:
        return replace(self, extras=replace(self.extras, kv_cache=kv_cache))

    @property
    def rounds(self) -> bool:
        """Whether weights are rounded so that a text, or random tokens, tell where it matters."""
        return PRECISIONS[self.precision].rounds

    @property
    def rounds_cache(self) -> bool:
        return self.extras.kv_cache == "int8"

    @property
    def has_kernels(self) -> bool:
        """Whether the same weights get a second graph, in our own operators."""
        ours = self.runtime.name == "onnxruntime"
        return ours and kernels_graph.can_build(self.graph, self.precision, self.device)

    @property
    def corrected(self) -> tuple[str, ...]:
        """Whose products gpt2onnx-kernels correct: what matrices' names end with."""
        return PRECISIONS[self.precision].corrected if self.has_kernels else ()

    @property
    def heeded(self) -> tuple[str, ...]:
        """Whose outputs make up for each other's rounding: what matrices' names end with.

        Not attention's where an int8 cache has each channel on a scale of its own.
        """
        heeded = PRECISIONS[self.precision].heeded
        return tuple(each for each in heeded if not (self.rounds_cache and ATTENTION in each))

    @property
    def place(self) -> Place:
        return self.runtime.place(self.graph, self.precision)

    def described(self) -> dict[str, Any]:
        """What the manifest says of it."""
        fused = {}
        if self.graph == "fused":
            activations = str(self.recipe.precision.dtype)
            fused = {"device": self.device, "activations": activations}
            fused |= {"opset": self.recipe.writer.opset} | asdict(self.extras)
        return {
            "graph": self.graph,
            "precision": self.precision,
            "runtime": self.runtime.name,
            **fused,
            "calibration": self.calibration and unicode_name(str(self.calibration)),
        }

    def _require_use_of_calibration(self) -> None:
        of_use = self.rounds or self.extras.kv_cache != "float"
        if self.calibration is not None and not of_use:
            raise ParameterError(
                Given("calibration", str(self.calibration)),
                " has no effect on ",
                Given("precision", self.precision),
                f": it is for {', '.join(those(lambda each: each.rounds))} and for ",
                *(Advised("kv_cache", "int8"), " or ", Advised("kv_cache", "float16")),
                "; leave it out",
            )
