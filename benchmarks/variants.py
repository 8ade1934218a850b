"""What is compared: each engine in each of its settings, and the environments that they need.

Versions are pinned, so that a table can be made again. Where an engine needs more to convert a
checkpoint than to run it, conversion has an environment of its own and the installed size is that
of running alone.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.environments import Environment
from benchmarks.process import ROOT

TORCH = "torch==2.13.0"
# The last one that Optimum and CTranslate2's converter both read.
TRANSFORMERS_4 = "transformers==4.57.6"
OURS = "gpt2onnx"


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    module: of benchmarks/peers, or any other that keeps to its interface. bits: of its weights,
    what a comparison of like with like goes by. convert, options: what the module's `convert` and
    `Engine` are given. first_token: the command whose first output is timed, with {folder}, {text}
    and {threads}; without one the worker opens the engine, encodes, and prints a token.
    """

    name: str
    module: str
    bits: int
    environment: Environment
    converter: Environment
    convert: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    first_token: tuple[str, ...] = ()
    # A minute of compiling a length: left out where time is short.
    slow: bool = False
    # Whether ours are compared with it.
    rival: bool = True

    @property
    def peer(self) -> str:
        """The engine's name, as --peers has it."""
        return self.module.rpartition(".")[2]

    @property
    def ours(self) -> bool:
        return self.peer == OURS

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


def tested(*names: str) -> tuple[str, ...]:
    """Requirements at the versions of requirements-tested.txt."""
    lines = (ROOT / "requirements-tested.txt").read_text().splitlines()
    versions = dict(line.split("==") for line in lines if "==" in line)
    return tuple(f"{name}=={versions[name]}" for name in names)


def llama_build() -> dict[str, str]:
    """llama.cpp for this processor, but for its AMX code, which crashed."""
    flags = "-DGGML_NATIVE=ON"
    if platform.machine() == "x86_64":
        no_amx = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
        flags += f" -DCMAKE_C_FLAGS='{no_amx}' -DCMAKE_CXX_FLAGS='{no_amx}'"
    return {"CMAKE_ARGS": flags}


RUN_OURS = ("numpy", "tokenizers", "onnxruntime")
PACKAGE = (ROOT / OURS,)
OURS_ENV = Environment(OURS, tested(*RUN_OURS), beside=PACKAGE)
OURS_EXPORT = Environment(
    f"{OURS}-export", tested(*RUN_OURS, "onnx", "huggingface_hub", "tqdm"), beside=PACKAGE
)
TRANSFORMERS = Environment("transformers", (TORCH, "transformers==5.23.0", "numpy==2.4.6"))
OPTIMUM = Environment(
    "optimum", (TORCH, TRANSFORMERS_4, "optimum-onnx==0.1.0", "onnxruntime==1.31.1")
)
TOKENIZERS = "tokenizers==0.22.2"
CTRANSLATE2 = Environment("ctranslate2", ("ctranslate2==4.8.5", "numpy==2.4.6", TOKENIZERS))
CTRANSLATE2_CONVERT = Environment(
    "ctranslate2-convert", (*CTRANSLATE2.requirements, TORCH, TRANSFORMERS_4)
)
OPENVINO = Environment("openvino", ("openvino==2026.4.1", "numpy==2.4.6", TOKENIZERS))
OPENVINO_CONVERT = Environment(
    "openvino-convert",
    (TORCH, "optimum-intel==2.2.0", "transformers==5.5.4", "openvino==2026.4.1", "nncf==3.4.0"),
    # Required, of no use to text, and it does not load beside a torch for the CPU alone.
    without=("torchvision",),
)
LLAMA = Environment("llama-cpp", ("llama-cpp-python==0.3.36",), llama_build())
LLAMA_CONVERT = Environment(
    "llama-cpp-convert", (*LLAMA.requirements, "gguf==0.19.0", "safetensors==0.8.0"), llama_build()
)
KERNELS_ENV = replace(OURS_ENV, name=f"{OURS}-kernels", built=(ROOT / "kernels",))
GENAI = Environment(
    "genai",
    ("onnxruntime-genai==0.18.0", "onnxruntime==1.31.1", "numpy==2.4.6", TOKENIZERS),
)
PICTURE = Environment("picture", ("matplotlib==3.11.2",))

# Export options of gpt2onnx by the name that --ours takes.
PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "fp16": {"precision": "fp16"},
    "int8": {"precision": "int8"},
    "int8-dynamic": {"precision": "int8-dynamic"},
    "int4": {"precision": "int4"},
    "int8-kv8": {"precision": "int8", "kv_cache": "int8"},
    "int8-dynamic-kv8": {"precision": "int8-dynamic", "kv_cache": "int8"},
}
# These again, on the graph of gpt2onnx-kernels' operators that their folders have as well.
KERNELS = "-kernels"
PRECISIONS |= {name + KERNELS: PRECISIONS[name] for name in ("fp32", "int8", "int4", "int8-kv8")}
BITS = {"fp32": 32, "fp16": 16, "int4": 4}
GENERATE = (
    *("-m", OURS, "generate", "{text}", "--model", "{folder}"),
    *("--max-new-tokens", "1", "--threads", "{threads}", "--provider", "cpu", "--graph"),
)


def ours(name: str) -> Variant:
    """gpt2onnx in a precision of PRECISIONS, on one of its folder's graphs."""
    precision = name.removesuffix(KERNELS)
    on_kernels = precision != name
    graph = "kernels" if on_kernels else "onnx"
    return Variant(
        f"{OURS} {name}",
        f"benchmarks.peers.{OURS}",
        BITS.get(precision, 8),
        KERNELS_ENV if on_kernels else OURS_ENV,
        OURS_EXPORT,
        PRECISIONS[name],
        options={"graph": graph},
        first_token=(*GENERATE, graph),
    )


def others() -> list[Variant]:
    """Everyone else."""

    def variant(
        name: str,
        peer: str,
        bits: int,
        environment: Environment,
        converter: Environment | None = None,
        convert: Mapping[str, Any] = {},
        options: Mapping[str, Any] = {},
        slow: bool = False,
        rival: bool = True,
    ) -> Variant:
        module = f"benchmarks.peers.{peer}"
        return Variant(
            *(name, module, bits, environment, converter or environment, convert, options),
            slow=slow,
            rival=rival,
        )

    fp32, bf16 = {"dtype": "float32"}, {"dtype": "bfloat16"}
    return [
        variant("transformers fp32", "transformers", 32, TRANSFORMERS, options=fp32),
        variant("transformers bf16", "transformers", 16, TRANSFORMERS, options=bf16),
        variant(
            "transformers fp32, compiled, static cache",
            *("transformers", 32, TRANSFORMERS),
            options=fp32 | {"compiled": True},
            slow=True,
        ),
        variant("Optimum fp32", "optimum", 32, OPTIMUM),
        variant("Optimum int8, dynamic", "optimum", 8, OPTIMUM, convert={"int8": True}),
        variant(
            "CTranslate2 int8",
            *("ctranslate2", 8, CTRANSLATE2, CTRANSLATE2_CONVERT),
            {"quantization": "int8"},
            {"compute_type": "int8"},
        ),
        variant(
            "OpenVINO int8 weights",
            *("openvino", 8, OPENVINO, OPENVINO_CONVERT),
            {"int8": True},
        ),
        variant(
            "OpenVINO bf16",
            *("openvino", 16, OPENVINO, OPENVINO_CONVERT),
            {"int8": False},
            {"precision": "bf16"},
        ),
        variant("llama.cpp Q8_0", "llama_cpp", 8, LLAMA, LLAMA_CONVERT, {"ftype": "Q8_0"}),
        variant("llama.cpp Q4_0", "llama_cpp", 4, LLAMA, LLAMA_CONVERT, {"ftype": "Q4_0"}),
        variant(
            "onnxruntime-genai, our int8 graph",
            *("onnxruntime_genai", 8, GENAI, OURS_EXPORT),
            {"precision": "int8"},
            rival=False,  # the graph is ours
        ),
    ]
