"""The runtimes that a folder can be compared on: what each is called, wants and is started by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

# What starts a runtime's program.
Starter: TypeAlias = Literal["python", "node", "page"]


@dataclass(frozen=True)
class Runtime:
    """One of them. `target` is its name for `export --for`, `packages` what is to be installed.

    module: what Python imports, or a folder of node_modules. provider: what it computes on.
    portable: precisions that it gets in standard operators, where the target's own graph is slow.
    """

    name: str
    target: str
    starter: Starter
    module: str
    packages: tuple[str, ...]
    provider: str = "cpu"
    portable: tuple[str, ...] = ()
    # transformers.js writes by itself: no tokens can be given, and no logits are seen.
    gives_logits: bool = True

    def graph(self, precision: str) -> str | None:
        """The graph to export for it; None is the target's own."""
        return "portable" if precision in self.portable else None


TRANSFORMERS: dict[str, Starter] = {
    "transformers.js": "node",
    "transformers.js-web": "page",
    "transformers.js-webgpu": "page",
}
RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("onnxruntime", "onnxruntime", "python", "onnxruntime", ("onnxruntime",)),
        Runtime("openvino", "openvino", "python", "openvino", ("openvino",)),
        Runtime(
            *("genai", "genai", "python", "onnxruntime_genai"),
            ("onnxruntime-genai", "onnxruntime", "numpy"),
        ),
        Runtime("optimum", "optimum", "python", "optimum", ("optimum-onnx[onnxruntime]",)),
        Runtime("reference", "optimum", "python", "onnx", ("onnx",)),
        Runtime("tract", "optimum", "python", "tract", ("tract", "numpy")),
        Runtime("node", "transformers.js", "node", "onnxruntime-node", ("onnxruntime-node",)),
        Runtime(
            *("web", "transformers.js", "page", "onnxruntime-web", ("onnxruntime-web",)),
            portable=("int8",),  # WebAssembly multiplies 8 bits out at every step
        ),
        Runtime(
            *("web-webgpu", "transformers.js", "page", "onnxruntime-web", ("onnxruntime-web",)),
            provider="webgpu",
        ),
        *(
            Runtime(
                *(name, "transformers.js", starter, "@huggingface/transformers"),
                ("@huggingface/transformers",),
                gives_logits=False,
            )
            for name, starter in TRANSFORMERS.items()
        ),
    )
}
