"""The reference of an evaluation: another model folder, or a checkpoint in PyTorch.

Only a checkpoint needs torch, and only it imports torch. Knows what both can read and how both give
logits; knows nothing of what is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gpt2onnx import models
from gpt2onnx.demo import BUNDLED
from gpt2onnx.errors import InstallationError
from gpt2onnx.runtime.decoder.protocol import Ids
from gpt2onnx.runtime.decoding.scoring import CHUNK, Piece, windows
from gpt2onnx.runtime.engine.score import walk
from gpt2onnx.runtime.folder.model_folder import is_model_folder
from gpt2onnx.runtime.model import Model
from gpt2onnx.runtime.open_model import bos_token_id
from gpt2onnx.runtime.text.prompts import Prompt, PromptReader


@dataclass(frozen=True)
class Reference:
    """`to_score` reads a text as Model.to_score does, `walk` gives logits as scoring.walk does."""

    name: str
    vocab_size: int
    n_positions: int
    to_score: Callable[[Prompt, bool], Ids]
    walk: Callable[[Ids, int | None], Generator[Piece, None, None]]


def open_reference(
    name: str | Path, open_model: Callable[[str | Path], Model] = models.load
) -> Reference:
    """A model folder, opened by `open_model`, or a checkpoint in PyTorch.

    A folder with an ONNX model in it is a model folder. Any other one is a checkpoint, as
    transformers writes them; what is no folder is a hub's model id, and "demo" the bundled model's
    checkpoint.

    Raises as `load` does, or CheckpointError and its kinds, and InstallationError where torch,
    transformers or the export's packages are missing.
    """
    if name not in BUNDLED and is_model_folder(Path(name)):
        return of_model(open_model(name))
    return of_checkpoint(name)


def of_model(model: Model) -> Reference:
    """An open model."""
    decoder = model.decoder
    sizes = decoder.vocab_size, decoder.n_positions
    return Reference(str(model.folder.path), *sizes, model.to_score, partial(walk, decoder))


def of_checkpoint(name: str | Path) -> Reference:
    """A checkpoint in PyTorch. Raises as `open_reference` does."""
    from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
    from gpt2onnx.export.verification.torch_model import TorchModel, missing

    if absent := missing():
        raise InstallationError(
            f"{name} as a reference needs {' and '.join(absent)}: pip install "
            "'gpt2onnx[export,verify]', or give a model folder, exported in fp32, as the reference"
        )
    checkpoint = open_checkpoint(BUNDLED.get(str(name), name))
    checkpoint.check()
    checkpoint.tokenizer.no_truncation()
    checkpoint.tokenizer.no_padding()
    sizes = checkpoint.config.vocab_size, checkpoint.config.n_positions
    bos = bos_token_id(checkpoint.generation_config or {}, checkpoint.config_json)
    reader = PromptReader(checkpoint.tokenizer, *sizes, bos)
    torch_model = TorchModel(checkpoint)

    def walked(inputs: Ids, stride: int | None) -> Generator[Piece, None, None]:
        for window in windows(len(inputs), sizes[1], stride):
            first = window.done - window.start
            pieces = torch_model.pieces(inputs[window.start : window.end], first, CHUNK)
            yield from zip(window.chunks, pieces, strict=True)

    return Reference(str(name), *sizes, reader.to_score, walked)
