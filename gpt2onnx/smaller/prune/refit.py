"""Refits what is left after layers and hidden units were taken out, by least squares on a text.

In a feed-forward block the units [tokens, inner] times the projection's rows [inner, n_embd] are
the output. Where units go, the rest is fitted to the output that all of them had. Where the layers
behind go, it is fitted to what they would have added as well, but only a little: with a penalty on
every change as large as the text's mean energy a unit, since a fit that follows the text all the
way is worse on another than none (docs/smaller.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.export.calibration.forward_pass import Forward
from gpt2onnx.export.checkpoint.checkpoint import Weights
from gpt2onnx.smaller.prune.pruned import Layer, Pruned
from gpt2onnx.smaller.prune.stream import advance

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Ids = NDArray[np.int64]

# Of the mean square of a unit's activations: how much a squared change of its row costs.
UNITS_RIDGE, LAYERS_RIDGE = 0.01, 1.0


def refitted(
    weights: Weights, layers: Sequence[int], inners: Sequence[int], windows: Ids
) -> list[Pruned]:
    """The model with `layers` alone, in order, at each of the numbers of hidden units `inners`."""
    fits = [_fits(block, inners) for block in _blocks(weights, layers, inners, windows)]
    return [Pruned(weights, kept) for kept in zip(*fits, strict=True)]


@dataclass(frozen=True)
class Block:
    """A kept layer's feed-forward block on a text, its bias as a last unit that is always 1.

    gram: products of units, summed over tokens [inner + 1, inner + 1]; None where nothing changes.
    rows: the projection [inner + 1, n_embd]. behind: units times what the dropped layers behind
    added [inner + 1, n_embd]; None where none was dropped.
    """

    source: int
    gram: Double | None
    rows: Double
    behind: Double | None


def _blocks(
    weights: Weights, layers: Sequence[int], inners: Sequence[int], windows: Ids
) -> Iterator[Block]:
    """The original's blocks while it reads the text, layer by layer."""
    units: list[Float] = []

    def note(name: str, values: Float) -> None:
        if noting and name.endswith("mlp.c_proj"):
            units.append(np.append(values, np.ones((len(values), 1), np.float32), axis=1))

    noting = False
    forward = Forward(weights, note)
    hidden = forward.embed(windows)
    ends = [*layers[1:], weights.config.n_layer]
    for dropped in range(layers[0]):
        advance(forward, dropped, hidden)
    for layer, end in zip(layers, ends, strict=True):
        noting = end > layer + 1 or min(inners) < weights.config.n_inner
        advance(forward, layer, hidden)
        noting = False
        own = hidden.copy() if end > layer + 1 else hidden
        for dropped in range(layer + 1, end):
            advance(forward, dropped, hidden)
        yield Block(
            layer,
            _summed(units, units) if units else None,
            _rows(weights, layer),
            _summed(units, hidden - own) if end > layer + 1 else None,
        )
        units.clear()


def _summed(units: Sequence[Float], others: Sequence[Float] | Float) -> Double:
    """units [tokens, n] times others [tokens, m], window by window, summed: [n, m]."""
    total = np.zeros((units[0].shape[1], others[0].shape[1]))
    for one, other in zip(units, others, strict=True):
        total += one.T @ other
    return total


def _rows(weights: Weights, layer: int) -> Double:
    weight, bias = (weights.tensor(f"h.{layer}.mlp.c_proj.{kind}") for kind in ("weight", "bias"))
    return np.vstack([weight, bias]).astype(np.float64)


def _fits(block: Block, inners: Sequence[int]) -> list[Layer]:
    return [_fit(block, inner) for inner in inners]


def _fit(block: Block, inner: int) -> Layer:
    """The layer with its most useful units, and rows that make up for what is gone."""
    all_units, rows = len(block.rows) - 1, block.rows
    kept = np.arange(all_units + 1)
    gram = block.gram
    if gram is not None and inner < all_units:
        kept = np.append(useful_units(gram, rows, inner), all_units)
        lost = np.delete(np.arange(all_units + 1), kept)
        wanted = gram[np.ix_(kept, lost)] @ rows[lost]
        rows = rows[kept] + _solved(gram[np.ix_(kept, kept)], wanted, UNITS_RIDGE)
    if gram is not None and block.behind is not None:
        left = gram[kept] @ block.rows - gram[np.ix_(kept, kept)] @ rows
        wanted = left + block.behind[kept]
        rows = rows + _solved(gram[np.ix_(kept, kept)], wanted, LAYERS_RIDGE)
    fitted = rows.astype(np.float32)
    return Layer(block.source, kept[:-1], fitted[:-1], fitted[-1])


def useful_units(gram: Double, rows: Double, count: int) -> NDArray[np.int64]:
    """The units that add most to the output, in order: activation's norm times row's norm.

    Of the activation what changes with the token: what doesn't, the bias can add.
    """
    tokens, sums = gram[-1, -1], gram[-1, :-1]
    changing = np.maximum(np.diagonal(gram)[:-1] - sums**2 / tokens, 0)
    added = np.sqrt(changing) * np.linalg.norm(rows[:-1], axis=1)
    return np.sort(np.argsort(-added, kind="stable")[:count])


def _solved(gram: Double, wanted: Double, ridge: float) -> Double:
    """The change x of least |units x - what is wanted|² + penalty |x|²; the bias is free."""
    penalty = np.full(len(gram), ridge * np.diagonal(gram)[:-1].mean() or 1.0)
    penalty[-1] = 0
    return np.asarray(np.linalg.solve(gram + np.diag(penalty), wanted), np.float64)
