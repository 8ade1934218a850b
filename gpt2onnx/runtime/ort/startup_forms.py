"""What the start-up cache keeps of a model: as ONNX Runtime saved it, or as the kernels packed it.

Each form knows how a model is opened plainly, kept in a folder and opened from there, what decides
what is kept beside the model itself, and what may be wrong with it. Knows no cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from gpt2onnx.errors import StorageError
from gpt2onnx.files import sha256
from gpt2onnx.runtime.machine.processor import fingerprint
from gpt2onnx.runtime.ort import library
from gpt2onnx.runtime.ort.kernels import Kernels
from gpt2onnx.runtime.ort.packing import is_aligned, packing_settings
from gpt2onnx.runtime.ort.session import How, Model, Session, create

GRAPH, DATA = "model.onnx", "model.onnx.data"
# Change when what an entry of the form holds does.
OPTIMISED_FORMAT, PACKED_FORMAT = 1, 1


class Form(Protocol):
    """A model, and how it is kept. What opens it raises `session.create`'s errors."""

    # The graph's kind, as load(graph=...) names it.
    graph: ClassVar[str]
    # Bytes of an entry for each of the model's.
    growth: ClassVar[float]

    def made_of(self) -> Mapping[str, Any]:
        """What decides how it is kept, besides the model, in JSON's types.

        Raises StorageError where that can't be told.
        """

    def open(self) -> Session:
        """Open the model as it is."""

    def save(self, folder: Path) -> Session:
        """Open the model as it is, and keep it in an empty folder."""

    def fault(self, folder: Path) -> str | None:
        """Why what was kept there can't be used, as far as it can be seen."""

    def reopen(self, folder: Path) -> Session:
        """Open what was kept there."""


@dataclass(frozen=True)
class Optimised:
    """The model as ONNX Runtime optimised and packed it: a graph of its own, and its data."""

    model: Path
    how: How

    graph: ClassVar[str] = "onnx"
    # Original and packed matrices, and the embedding once more (measured: 1.9 for fp32, 2.2 for
    # int8-dynamic, 2.4 for int8 and int4).
    growth: ClassVar[float] = 2.5

    def made_of(self) -> Mapping[str, Any]:
        ort, processor = library.onnxruntime(), fingerprint()
        if processor is None:
            raise StorageError("this system doesn't tell which processor it is")
        return {
            "format": OPTIMISED_FORMAT,
            "processor": processor,
            "onnxruntime": [ort.__version__, ort.get_build_info()],
            "settings": [packing_settings(), list(self.how.provider.disabled_optimizers)],
        }

    def open(self) -> Session:
        return create(self.model, self.how)

    def save(self, folder: Path) -> Session:
        return create(self.model, _told(self.how, save_to=folder / GRAPH))

    def fault(self, folder: Path) -> str | None:
        if is_aligned(folder / GRAPH):
            return None
        return "its packed matrices would lie at other addresses"

    def reopen(self, folder: Path) -> Session:
        session = create(folder / GRAPH, _told(self.how, optimised=True))
        return replace(session, file=self.model)


@dataclass(frozen=True)
class Packed:
    """The weights as the kernels packed them, a file a matrix; the graph stays the model's own."""

    model: Model
    how: How
    kernels: Kernels

    graph: ClassVar[str] = "kernels"
    growth: ClassVar[float] = 1.1  # outputs are filled up to panels of 16

    def made_of(self) -> Mapping[str, Any]:
        # The layout is the kernels' own affair: another build of the library may have another one.
        return {
            "format": PACKED_FORMAT,
            "kernels": self.kernels.name,
            "library": sha256(self.kernels.library, StorageError),
        }

    def open(self) -> Session:
        return create(self.model, self.how)

    def save(self, folder: Path) -> Session:
        return create(self.model, _told(self.how, pack_to=folder))

    def fault(self, folder: Path) -> str | None:
        if any(folder.iterdir()):
            return None
        return "the installed gpt2onnx-kernels is older, and kept nothing; install it again"

    def reopen(self, folder: Path) -> Session:
        return create(self.model, _told(self.how, packed=folder))


def _told(how: How, **setup: Any) -> How:
    return replace(how, setup=replace(how.setup, **setup))
