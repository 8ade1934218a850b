"""The precisions: all that is special about each of them, in one record.

What differs between precisions is a field here, and whoever needs to know asks the record. A new
one is its record, with a recipe of `precision.py`'s parts, and its name in the command's help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.export.quantization.blocks import LONG_BLOCK_SIZE
from gpt2onnx.export.quantization.dynamic import multiply_finely, multiply_hidden
from gpt2onnx.export.quantization.portable_int8 import StandardBlockwise
from gpt2onnx.export.quantization.precision import Blockwise, Dynamic, Floating, Mixed, Precision
from gpt2onnx.flags import one_of

DEVICES = ("cpu", "cuda")
# Directions of an input along which a product is corrected.
RANK = 32
SINGLE, HALF = np.dtype(np.float32), np.dtype(np.float16)
ATTENTION, MLP_IN, MLP_OUT = ".attn.", ".mlp.c_fc", ".mlp.c_proj"
ATTENTION_MATRICES = (".attn.c_attn", ".attn.c_proj")
MATRICES = (*ATTENTION_MATRICES, MLP_IN, MLP_OUT)

Float: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Calibrated:
    """What a text, or random tokens, told of a matrix's inputs, by its name.

    moments, gradients: their second moments, and the gradients of its outputs that say most, [n,
    out], which 4-bit rounding heeds.
    directions: those that the model is most sensitive to, [in, rank], of the matrices whose
    products gpt2onnx-kernels correct.
    """

    moments: Callable[[str], Float | None] | None = None
    gradients: Mapping[str, Float] = field(default_factory=dict)
    directions: Mapping[str, Float] = field(default_factory=dict)


@dataclass(frozen=True)
class NamedPrecision:
    """A precision as users name it.

    `recipe` of a device, and of what calibration found, says how matrices are stored;
    `standard` says so in ONNX's own operators, where there is a way.
    """

    name: str
    recipe: Callable[[str, Calibrated], Precision]
    # What tells a broken export from a coarse one: the mean KL from PyTorch's logits, in nats, and
    # the largest difference, of the logits' largest magnitude. How good it is, perplexity tells.
    mean_kl: float
    js_dtype: str  # transformers.js' name of it
    max_difference: float = inf
    devices: tuple[str, ...] = DEVICES
    # Whether weights are rounded, which outliers and a calibration text matter to.
    rounds: bool = False
    # Whether its graph can have an int8 KV cache, and gpt2onnx-kernels' operators beside it.
    int8_cache: bool = True
    kernels: bool = False
    # Whose products gpt2onnx-kernels correct: what matrices' names end with.
    corrected: tuple[str, ...] = ()
    # And whose outputs make up for each other's rounding, by what the model is sensitive to.
    heeded: tuple[str, ...] = ()
    standard: Callable[[], Precision] | None = None


def _fp32(device: str, found: Calibrated) -> Precision:
    return Floating(SINGLE)


def _fp16(device: str, found: Calibrated) -> Precision:
    return Floating(HALF)


def _int8(device: str, found: Calibrated) -> Precision:
    """On the CPU, whose kernels round activations, attention is given 16 bits of those.

    It suffers most from rounding: a softmax comes next. gpt2onnx-kernels correct products in place
    of that, and longer blocks do but for hidden units, which have one sign.
    """
    plain = Blockwise(8, _activations(device), directions=found.directions)
    most = replace(plain, block_size=LONG_BLOCK_SIZE) if found.directions else plain
    attention = replace(most, fine=device == "cpu")
    return Mixed(most, {ATTENTION: attention, MLP_OUT: plain})


def _int4(device: str, found: Calibrated) -> Precision:
    """Attention's matrices have 8 bits where their outputs don't make up for each other's rounding.

    Hidden units, which an activation bends, don't in any case (`heeded`).
    """
    most = Blockwise(
        4, _activations(device), found.moments, found.gradients, directions=found.directions
    )
    if any(ATTENTION in name for name in found.gradients):
        return most
    return Mixed(most, {ATTENTION: Blockwise(8, most.dtype, directions=found.directions)})


def _int8_dynamic(device: str, found: Calibrated) -> Precision:
    """By the operator that is fastest for prompts and batches."""
    attention, mlp_out = Dynamic(SINGLE, multiply_finely), Dynamic(SINGLE, multiply_hidden)
    return Mixed(Dynamic(SINGLE), {ATTENTION: attention, MLP_OUT: mlp_out})


def _standard_int8() -> Precision:
    fine = StandardBlockwise(8, SINGLE, fine=True)
    return Mixed(StandardBlockwise(8, SINGLE), {ATTENTION: fine})


def _activations(device: str) -> np.dtype[np.float32] | np.dtype[np.float16]:
    """The type of activations beside rounded weights."""
    return HALF if device == "cuda" else SINGLE


PRECISIONS = {
    precision.name: precision
    for precision in (
        NamedPrecision(
            "fp32",
            _fp32,
            mean_kl=1e-5,
            max_difference=1e-3,
            js_dtype="fp32",
            kernels=True,
            standard=lambda: Floating(SINGLE),
        ),
        NamedPrecision("fp16", _fp16, mean_kl=1e-2, js_dtype="fp16", int8_cache=False),
        NamedPrecision(
            "int8",
            _int8,
            mean_kl=0.1,
            js_dtype="q8",
            rounds=True,
            kernels=True,
            corrected=MATRICES,
            standard=_standard_int8,
        ),
        NamedPrecision(
            "int8-dynamic",
            _int8_dynamic,
            mean_kl=0.5,
            js_dtype="int8",
            devices=("cpu",),
            rounds=True,
        ),
        NamedPrecision(
            "int4",
            _int4,
            mean_kl=0.5,
            js_dtype="q4",
            rounds=True,
            kernels=True,
            corrected=ATTENTION_MATRICES,
            heeded=(*ATTENTION_MATRICES, MLP_OUT),
        ),
    )
}


def those(holds: Callable[[NamedPrecision], object]) -> tuple[str, ...]:
    """The names of the precisions of which something holds."""
    return tuple(name for name, each in PRECISIONS.items() if holds(each))


def choose(precision: str, device: str, found: Calibrated = Calibrated()) -> Precision:
    """How matrices are stored, for the device that the model is made for.

    Raises ParameterError where a name is unknown or the two don't go together.
    """
    named = PRECISIONS[one_of("precision", precision, PRECISIONS)]
    one_of("device", device, DEVICES)
    if device not in named.devices:
        *most, last = those(lambda each: device in each.devices)
        raise ParameterError(
            Given("precision", precision),
            f" has no {device.upper()} kernels: choose {', '.join(most)} or {last} with ",
            Given("device", device),
        )
    return named.recipe(device, found)
