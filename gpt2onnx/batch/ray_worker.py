"""A worker on a node of a Ray cluster: an actor with one engine.

It is sent lines and gives back records; whoever asked writes them down. Its model is the folder of
the same path where that holds the same files, else a copy in the node's cache, from Ray's object
store, made once a node.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import NamedTuple

import gpt2onnx
from gpt2onnx.batch.lines import Line
from gpt2onnx.batch.manifest import model_identity
from gpt2onnx.batch.opening import open_answerer
from gpt2onnx.batch.records import Record
from gpt2onnx.batch.spec import WorkerSpec
from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.paths import cache_folder
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.staging import NEW, stage

# Seconds between two handfuls of records.
PAUSE = 0.5
MODELS = "batch-models"


class About(NamedTuple):
    """What a node runs, and whether it has the model."""

    node: str
    python: str
    gpt2onnx: str
    has_model: bool


def versions() -> tuple[str, str]:
    """Those that must be the same wherever a job runs."""
    return ".".join(platform.python_version_tuple()[:2]), gpt2onnx.__version__


def pack(folder: Path) -> dict[str, bytes]:
    """A model folder's files by their names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def unpack(files: Mapping[str, bytes], identity: Mapping[str, object]) -> Path:
    """The folder of a model on this machine, made of its files where it isn't there yet."""
    name = sha256(dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    target = cache_folder() / MODELS / name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with stage(target) as folder:
        for each, content in files.items():
            path = folder / NEW / each
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        with suppress(OSError):  # another worker of the node was faster
            (folder / NEW).rename(target)
    return target


class RayWorker:
    """The actor. `open` comes before `answer`."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec, self._open = spec, ExitStack()

    async def about(self) -> About:
        has_model = False
        with suppress(Gpt2OnnxError):  # no such folder here
            found = model_identity(open_folder(self._spec.folder), self._spec.identity["options"])
            has_model = found == self._spec.identity
        return About(platform.node(), *versions(), has_model)

    async def open(self, files: Mapping[str, bytes] | None) -> None:
        """Open the model, of the files where the node has none. Raises what that raises."""
        spec = self._spec
        if files is not None:
            spec = replace(spec, folder=str(unpack(files, spec.identity)))
        self._answerer = self._open.enter_context(open_answerer(spec))

    async def answer(self, lines: Sequence[Line]) -> AsyncIterator[list[Record]]:
        """Records as they come, some at a time."""
        taken: list[Record] = []
        answering = asyncio.ensure_future(self._answerer.answer(lines, taken.append))
        while taken or not answering.done():
            await asyncio.wait([answering], timeout=PAUSE)
            handful = taken.copy()
            taken.clear()  # before others go on, while this one waits to be asked again
            yield handful
        answering.result()
