"""Write a GPT-2 checkpoint with outlier channels put in: the same function, harder to round.

    python -m benchmarks.checkpoints.outliers gpt2onnx/demo/model /tmp/outliers

Real GPT-2 has a few channels with activations tens of times larger than the rest; a small model may
not. Here 2 % of each layer norm's outputs and of the attention's values are scaled up 10 to 60
times and the next matrix's rows down, and the feed-forward's hidden units as well where the
activation lets a scale through. Weights are written in single precision.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint, open_checkpoint, tensor_shapes
from gpt2onnx.export.quantization.smoothquant import HOMOGENEOUS

SHARE, SMALLEST, LARGEST = 0.02, 10, 60
Tensors = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a checkpoint: a folder or a hub's model id")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out}: exists; expected a new folder's name")
    try:
        write(open_checkpoint(arguments.source), arguments.out, arguments.seed)
    except Gpt2OnnxError as error:
        parser.error(str(error))


def write(checkpoint: Checkpoint, out: Path, seed: int = 0) -> None:
    """A checkpoint folder `out` with outliers. Beside the weights, files are copied."""
    out.mkdir(parents=True)
    for path in checkpoint.folder.iterdir():
        if path.suffix in (".json", ".txt") and ".index." not in path.name:
            shutil.copyfile(path, out / path.name)
    tensors = {name: checkpoint.tensor(name).copy() for name in tensor_shapes(checkpoint.config)}
    random = np.random.default_rng(seed)
    for layer in range(checkpoint.config.n_layer):
        put_outliers(tensors, f"h.{layer}", checkpoint.config.activation_function, random)
    save_file(tensors, out / "model.safetensors", {"format": "pt"})


def put_outliers(
    tensors: Tensors, layer: str, activation: str, random: np.random.Generator
) -> None:
    """Scale some channels of one layer up where they are made, and down where they are read."""
    norm_1, attend, project = (f"{layer}.{name}" for name in ("ln_1", "attn.c_attn", "attn.c_proj"))
    norm_2, widen, narrow = (f"{layer}.{name}" for name in ("ln_2", "mlp.c_fc", "mlp.c_proj"))
    width = len(tensors[f"{project}.weight"])
    values = slice(2 * width, None)  # c_attn makes queries, keys and values
    move(tensors, norm_1, slice(None), attend, factors(width, random))
    move(tensors, attend, values, project, factors(width, random))
    move(tensors, norm_2, slice(None), widen, factors(width, random))
    if activation in HOMOGENEOUS:
        scales = factors(len(tensors[f"{narrow}.weight"]), random)
        move(tensors, widen, slice(None), narrow, scales, HOMOGENEOUS[activation])


def factors(channels: int, random: np.random.Generator) -> np.ndarray:
    """Scales [channels]: 1 for most."""
    scales = np.ones(channels, np.float32)
    count = max(1, round(SHARE * channels))
    chosen = random.choice(channels, count, replace=False)
    scales[chosen] = np.exp(random.uniform(*np.log([SMALLEST, LARGEST]), count))
    return scales


def move(
    tensors: Tensors, maker: str, made: slice, reader: str, scales: np.ndarray, power: int = 1
) -> None:
    """Let `maker` give its channels `made` scaled, and `reader` undo it."""
    tensors[f"{maker}.weight"][..., made] *= scales
    tensors[f"{maker}.bias"][made] *= scales
    tensors[f"{reader}.weight"] /= (scales**power)[:, None]


if __name__ == "__main__":
    main()
