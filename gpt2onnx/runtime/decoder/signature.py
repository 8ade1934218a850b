"""What a decoder wants of a graph: its inputs and outputs, the sizes that it fixes, its cache.

Every refusal names the graph's file. Knows a session's specs; runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.runtime.decoder.arena import CacheShape
from gpt2onnx.runtime.ort.session import Session

PAST = "past_key_values."
LAYOUT = "batch, heads, capacity, head_dim"


def require_names(session: Session, inputs: Iterable[str], outputs: Iterable[str] = ()) -> None:
    """Raises ModelFolderError where the graph lacks some of its inputs or outputs."""
    for what, given, wanted in (
        ("inputs", session.inputs, inputs),
        ("outputs", session.outputs, outputs),
    ):
        if missing := [name for name in wanted if name not in given]:
            raise session.unfit(
                f"the graph's {what} are {', '.join(given)}: expected {', '.join(missing)}, too; "
                "export the model again"
            )


def fixed_size(session: Session, name: str, axis: int, layout: str) -> int:
    """A size of an input or output that the graph must fix; `layout` names all of its axes.

    Raises ModelFolderError.
    """
    spec = session.inputs.get(name) or session.outputs[name]
    size = spec.shape[axis] if axis < len(spec.shape) else None
    if isinstance(size, int) and size > 0 and len(spec.shape) == len(layout.split(", ")):
        return size
    raise session.unfit(
        f"{name} has the shape {spec.shape}: expected [{layout}] with a number on axis {axis}; "
        "export the model again",
        name,
    )


def refuse_captures(session: Session, why: str) -> None:
    """Raises ParameterError where steps were to be captured, which can't be of this graph."""
    if session.captures:
        raise ParameterError(
            Given(session.runs_on.capture_option or "provider_options"),
            f" can't be for {session.file}: {why}; leave it out, or use a model of "
            f"{session.runs_on.wants} without an attention bias",
        )


def width(session: Session, name: str) -> int:
    """An output's last dimension, [positions, width]; 0 where the graph doesn't give it.

    Raises ModelFolderError.
    """
    return fixed_size(session, name, 1, "positions, width") if name in session.outputs else 0


def cache_names(session: Session) -> list[str]:
    """Keys and values of all layers, as the graph's cache must name them: "0.key", "0.value", …"""
    found = sum(name.startswith(PAST) for name in session.inputs)
    layers = max(-(-found // 2), 1)
    return [f"{n}.{kind}" for n in range(layers) for kind in ("key", "value")]


def cache_shape(session: Session, n_positions: int) -> CacheShape:
    """The cache that the graph wants, read from its own inputs. Raises ModelFolderError."""
    first, *others = [f"{PAST}{name}" for name in cache_names(session)]
    require_names(session, [first, *others])
    heads, head_dim = (fixed_size(session, first, axis, LAYOUT) for axis in (1, 3))
    for name in others:
        if session.inputs[name] != session.inputs[first]:
            raise session.unfit(
                f"{name} isn't {first}'s like: expected one type and shape for all; "
                "export the model again",
                name,
            )
    layers = (1 + len(others)) // 2
    return CacheShape(layers, heads, head_dim, n_positions, session.inputs[first].dtype)
