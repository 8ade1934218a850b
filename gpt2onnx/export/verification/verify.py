"""Verifies an exported model: logits of a prompt and of cached steps against PyTorch's.

The one place where export meets the runtime, since what is verified is what a user will run. Needs
PyTorch, transformers and ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.agreement import Agreement
from gpt2onnx.errors import Advised, InstallationError, TokenizerError, VerificationError
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint
from gpt2onnx.export.quantization.table import PRECISIONS
from gpt2onnx.export.verification.draft import verify_draft
from gpt2onnx.export.verification.torch_model import TorchModel, missing
from gpt2onnx.export.writing.progress import Track
from gpt2onnx.runtime.chosen_graph import ChosenGraph, choose_graph
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.flat import FlatDecoder
from gpt2onnx.runtime.decoder.protocol import Decoder
from gpt2onnx.runtime.folder.model_folder import KERNELS_GRAPH, open_folder
from gpt2onnx.runtime.open_model import open_decoder
from gpt2onnx.tokenizer.codec import encode

PACKAGES = ("torch", "transformers", "onnxruntime")

STEPS = 32
PROMPT = 96
TEXT = """\
The tower had stood at the mouth of the river for three hundred years, and nobody living could say
who had built it. In winter, when the fog came in — "thick as wool," the ferryman used to say — its
lamp was the only thing to be seen between the harbour and the hills beyond 52° north.

def read_log(path: str, *, encoding: str = "utf-8") -> list[str]:
    with open(path, encoding=encoding) as file:
        return [line.rstrip() for line in file if not line.startswith("#")]

Prices rose by 3.7 % in 2019; naïve forecasts, it turned out, were off by more than $1,200.
"""

# Of a cache that is rounded, on top of a precision's own.
CACHE_KL = {"float16": 1e-4, "int8": 0.05}


@dataclass(frozen=True)
class Verification:
    """How far an exported model's logits are from PyTorch's in fp32."""

    positions: int
    max_difference: float
    largest_logit: float
    mean_kl: float  # KL(PyTorch || exported), nats
    top_token_agreement: float  # 0 to 1
    # Why the kernels' graphs, where the folder has them, weren't looked at.
    unverified: str | None = None

    def __str__(self) -> str:
        left = f"; {KERNELS_GRAPH} wasn't looked at: {self.unverified}" if self.unverified else ""
        return (
            f"{self.positions} positions against PyTorch: largest logit difference "
            f"{self.max_difference:.2g}, mean KL {self.mean_kl:.2g}, "
            f"top token agrees {self.top_token_agreement:.1%}{left}"
        )


def can_verify() -> bool:
    """Whether what verification needs is installed."""
    return not missing(PACKAGES)


def require_packages() -> None:
    """Raise InstallationError where verification was asked for and can't run."""
    if absent := missing(PACKAGES):
        raise InstallationError(
            f"verification needs {' and '.join(absent)}: pip install 'gpt2onnx[cpu,verify]', or "
            "leave it out by ",
            Advised("verify", False),
            name=absent[0],
        )


def verify_folder(
    checkpoint: Checkpoint,
    folder: Path,
    precision: str,
    track: Track,
    kv_cache: str = "float",
) -> Verification:
    """Compare a model folder with its checkpoint; its kernels' graphs as well, where they run here.

    What comes back is of ONNX Runtime's operators. Raises VerificationError where the logits are
    further apart than precision and cache explain, or a draft isn't what steps write.
    """
    ids = _text_ids(checkpoint)
    expected = TorchModel(checkpoint).logits(ids)
    opened = open_folder(folder)
    plain, chosen = ChosenGraph(opened, None), choose_graph(opened, "auto", "cpu")
    graphs = [(plain, "float" if kv_cache == "float16" else kv_cache)]
    graphs += [(chosen, kv_cache)] if chosen.kernels else []
    first, *_ = [
        _checked(graph, ids, expected, (precision, cache), track) for graph, cache in graphs
    ]
    return replace(first, unverified=chosen.passed_over or None)


def _checked(
    graph: ChosenGraph,
    ids: NDArray[np.int64],
    expected: NDArray[np.float32],
    kind: tuple[str, str],
    track: Track,
) -> Verification:
    """Compare a graph's logits behind ids [positions] with those expected, [positions, vocab].

    `kind` is its precision and its cache. Raises VerificationError.
    """
    decoder = open_decoder(graph.folder, graph.open("cpu"), graph.loop())
    prompt, steps = _parts(ids)
    result = compare(expected, _logits(decoder, prompt, track(steps, "verifying")))
    _require_match(result, *kind, graph.folder.graph.name)
    if isinstance(decoder, FlatDecoder) and decoder.writer:
        verify_draft(decoder, decoder.writer, prompt, len(steps) + 1)
    return result


def _require_match(result: Verification, precision: str, kv_cache: str, file: str) -> None:
    kl, largest = _bounds(precision, kv_cache)
    difference = largest * max(1.0, result.largest_logit)
    for found, most in ((result.mean_kl, kl), (result.max_difference, difference)):
        if not found <= most:  # NaN fails, too
            raise VerificationError(
                f"the {precision} model doesn't match PyTorch in {file}: {result}; expected a mean "
                f"KL of at most {kl:g} and a difference of at most {difference:.2g}; please report "
                "this with the checkpoint's config.json",
                name=precision,
                found=found,
                expected=most,
            )


def compare(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> Verification:
    """Two sets of logits [positions, vocab] over the same tokens."""
    agreement = Agreement()
    agreement.add(reference, candidate)
    return Verification(
        positions=agreement.tokens,
        max_difference=agreement.max_logit_difference,
        largest_logit=float(np.abs(reference).max()),
        mean_kl=agreement.kl_mean,
        top_token_agreement=agreement.top1_agreement,
    )


def _bounds(precision: str, kv_cache: str) -> tuple[float, float]:
    """The mean KL that a model may have, and the difference, of its logits' largest magnitude."""
    allowed = PRECISIONS[precision]
    if kv_cache in CACHE_KL:
        return allowed.mean_kl + CACHE_KL[kv_cache], np.inf
    return allowed.mean_kl, allowed.max_difference


def _text_ids(checkpoint: Checkpoint) -> NDArray[np.int64]:
    """Ids [positions] of as much of the text as the model has positions for.

    Where its tokenizer makes little of the text, the first ids of the vocabulary come after it.
    """
    config = checkpoint.config
    ids = encode(checkpoint.tokenizer, TEXT, TokenizerError) + list(range(config.vocab_size))
    return np.array(ids[: min(PROMPT + STEPS, config.n_positions)], np.int64)


def _parts(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A prompt, and at most STEPS tokens behind it: [n] and [m], of ids [n + m], n >= 1."""
    prompt = max((len(ids) + 1) // 2, len(ids) - STEPS)
    return ids[:prompt], ids[prompt:]


def _logits(
    decoder: Decoder[Any], prompt: NDArray[np.int64], steps: Iterable[np.int64]
) -> NDArray[np.float32]:
    """Logits [positions, vocab]: of a prompt, and of the tokens after it one by one."""
    row = decoder.new_row()
    logits = [reads.extend(decoder, row, prompt)]
    logits += [reads.step(decoder, [row], np.array([token])) for token in steps]
    decoder.free(row)
    return np.concatenate(logits)
