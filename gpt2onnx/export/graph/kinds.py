"""The kinds of graph: fused, masked and portable; how each is rounded, and what writes it.

Knows what goes together, and refuses what doesn't; knows nothing of files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpt2onnx.errors import Advised, Given, ParameterError
from gpt2onnx.export.graph.cuda_graph import CudaDecoder, SingleCudaDecoder
from gpt2onnx.export.graph.fused import Decoder, Extras
from gpt2onnx.export.graph.masked import MaskedDecoder
from gpt2onnx.export.graph.portable import PortableDecoder, choose_portable, portable_decoder
from gpt2onnx.export.quantization.precision import Precision
from gpt2onnx.export.quantization.table import PRECISIONS, choose
from gpt2onnx.export.quantization.unpacked_int8 import Unpacked
from gpt2onnx.flags import one_of

GRAPHS = ("fused", "masked", "portable")


class Recipe(NamedTuple):
    """How matrices are stored, and what writes the nodes."""

    precision: Precision
    writer: type[Decoder]


def choose_graph(
    graph: str, precision: str, device: str, extras: Extras, unpacks: bool = False
) -> Recipe:
    """The recipe of a graph. Raises ParameterError where the options don't go together.

    unpacks: the portable graph's rounded weights are multiplied out when it is opened.
    """
    one_of("graph", graph, GRAPHS)
    recipe = _choose(graph, precision, device)
    if graph == "portable" and unpacks and PRECISIONS[precision].rounds:
        recipe = Recipe(Unpacked(), PortableDecoder)
    if extras.attention_bias and recipe.writer is SingleCudaDecoder:
        raise ParameterError(
            Given("with_attention_bias", True),
            *(": there is none in fp32 with ", Given("device", device)),
            *("; use fp16, int8 or int4, or leave ", Given("with_attention_bias"), " out"),
        )
    for option, asked, what in (
        ("with_hidden_states", extras.hidden_states, "give hidden states"),
        ("with_attention_bias", extras.attention_bias, "be told what each token sees"),
    ):
        if asked and graph != "fused":
            raise ParameterError(
                *(Given(option, True), f": the {graph} graph can't {what}; use "),
                *(Advised("graph", "fused"), ", or leave ", Given(option), " out"),
            )
    return recipe


def _choose(graph: str, precision: str, device: str) -> Recipe:
    if graph == "portable":
        recipe = Recipe(choose_portable(precision), portable_decoder(precision))
    elif graph == "masked":
        recipe = Recipe(choose(precision, "cpu"), MaskedDecoder)
    elif device == "cuda":
        stored = choose(precision, device)
        return Recipe(stored, CudaDecoder if stored.dtype == np.float16 else SingleCudaDecoder)
    else:
        return Recipe(choose(precision, device), Decoder)
    if device != "cpu":
        raise ParameterError(
            Given("device", device),
            f": the {graph} graph is the same for every device; leave it out",
        )
    return recipe
