"""What a runtime's program is asked for, and what it gives: JSON between two processes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.runtime.folder.model_folder import ModelFolder
from gpt2onnx.runtime.ort.errors import plain

LINE = 300  # characters of a reason


class UnavailableError(Gpt2OnnxError):
    """A runtime isn't installed, or can't run this folder; the message is the reason."""


@dataclass(frozen=True)
class Text:
    """Write `count` tokens behind each row of ids [rows, n], the runtime's own.

    Or go on from each given one, in every row. With a path, the logits float32 [count, rows, vocab]
    that the tokens are of are kept there.
    """

    ids: list[list[int]]
    count: int
    given: list[int] | None = None
    logits: str | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A folder and its graph, as the program finds them.

    data: the graph's data file, beside it, which a browser is to be told. modules: the folder
    node_modules. options: the runtime's own. In JSON there is its capacity as well: the most tokens
    that a text reads, which are all but the last one that is written.
    """

    runtime: str
    folder: str
    graph: str
    data: str | None
    threads: int
    texts: list[Text]
    modules: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        capacity = max(len(text.ids[0]) + text.count - 1 for text in self.texts)
        return json.dumps({**asdict(self), "capacity": capacity})


@dataclass(frozen=True)
class Wrote:
    """A text's tokens [rows, count], and each step's seconds; the first's are the prompt's too."""

    tokens: list[list[int]]
    times: list[float]


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a program gives: texts in the job's order. Memory is None where nothing tells it."""

    version: str
    load_s: float
    texts: list[Wrote]
    resident_bytes: int | None
    anonymous_bytes: int | None


def written(answer: Mapping[str, Any]) -> Written:
    """A program's answer. Raises UnavailableError where it is a reason."""
    if "reason" in answer:
        raise UnavailableError(short(answer["reason"]))
    texts = [Wrote(**text) for text in answer["texts"]]
    return Written(**{**answer, "texts": texts})


def short(reason: str) -> str:
    """A runtime's message as a line: without its stack, codes in colour, places in a source."""
    text = plain(re.sub(r"\x1b\[[0-9;]*m", "", reason).partition("Stack backtrace")[0])
    return text if len(text) <= LINE else f"{text[:LINE]}…"


def graph_of(folder: ModelFolder) -> tuple[str, str | None]:
    """A folder's graph and the data beside it, from the folder; None for a graph that has none."""
    graph = folder.graph.relative_to(folder.path).as_posix()
    beside = (f"{graph}_data", f"{graph}.data")
    return graph, next((name for name in beside if (folder.path / name).is_file()), None)
