"""The start-up cache: models as ONNX Runtime optimised and packed them, mapped at the next start.

Opened plainly, ONNX Runtime packs every matrix into memory of the process's own. It can save what
it packed (`session.save_external_prepacked_constant_initializers`) and map it the next time: pages
that the system can drop and that processes share. What it saves fits one ONNX Runtime, one
processor and one set of options only, so an entry is made of all of these, and it is kept only if
the model that is opened from it gives the same logits, bit for bit.

Stands above the session: opens a model as that does, with an entry or to make one. Knows when an
entry fits and what makes one good.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from gpt2onnx.errors import Gpt2OnnxError, StorageError
from gpt2onnx.paths import cache_folder
from gpt2onnx.runtime.folder.model_folder import ModelFolder
from gpt2onnx.runtime.machine.processor import fingerprint
from gpt2onnx.runtime.ort import library
from gpt2onnx.runtime.ort.packing import is_aligned, packing_settings
from gpt2onnx.runtime.ort.session import How, Model, Session, create
from gpt2onnx.runtime.ort.startup_entries import Entries, Entry, size_limit

FOLDER, GRAPH, DATA = "startup", "model.onnx", "model.onnx.data"
# Changes when what an entry holds does.
FORMAT = 1
# A smaller model opens in the time that looking for its entry takes.
MIN_SIZE = 32 << 20
# Bytes of an entry for each of the model's: original and packed matrices, and the embedding once
# more (measured: 1.9 for fp32, 2.2 for int8-dynamic, 2.4 for int8 and int4).
GROWTH = 2.5


class Opener(Protocol):
    """How this model is opened, but for where it lies."""

    def __call__(
        self, model: Path, *, save_to: Path | None = None, optimised: bool = False
    ) -> Session:
        """Open it; also save it as it was optimised and packed, or open what was saved so."""


@dataclass(frozen=True)
class StartupCache:
    """The cache as one model sees it. `prove` gives logits of a session, for comparing."""

    folder: ModelFolder
    prove: Callable[[Session], NDArray[Any]]

    def create(self, model: Model, how: How) -> Session:
        """As session.create, of the folder's graph: from its entry, or making one.

        Only where the provider packs matrices. The session's `startup` says what came of it:
        whatever keeps the cache from being used, the model is opened.
        """
        if not how.provider.packs:
            return create(model, how)
        return self._open(_opener(how), _packing(how))

    def _open(self, open_: Opener, packing: Mapping[str, Any]) -> Session:
        graph = self.folder.graph
        processor = fingerprint()
        if obstacle := self._obstacle(processor):
            return replace(open_(graph), startup=f"not used: {obstacle}")
        made_of = {
            "format": FORMAT,
            "processor": processor,
            **packing,
            "model": self.folder.identity(),
        }
        try:
            entries = startup_entries()
        except StorageError as error:
            return replace(open_(graph), startup=f"not used: {error}")
        entry = entries.find(made_of)
        if entry is None:
            return self._make(open_, entries, made_of)
        return self._reopen(open_, entries, entry)

    def _obstacle(self, processor: str | None) -> str | None:
        """Why this model can't have an entry, or isn't worth one."""
        size, limit = self.folder.graph_size(), size_limit()
        if processor is None:
            return "this system doesn't tell which processor it is"
        if limit == 0:
            return "its size limit is 0"
        if size < MIN_SIZE:
            return f"the model is smaller than {MIN_SIZE >> 20} MiB"
        if size * GROWTH > limit:
            return f"an entry would take {size * GROWTH / 1e9:.1f} GB, the limit is {limit / 1e9:g}"
        return None

    def _reopen(self, open_: Opener, entries: Entries, entry: Entry) -> Session:
        if entry.refused:
            return replace(open_(self.folder.graph), startup=f"not used: {entry.refused}")
        try:
            return replace(open_(entry.path / GRAPH, optimised=True), startup="used")
        except Gpt2OnnxError:  # damaged, or another process has just removed it
            entries.remove(entry.path)
            return replace(open_(self.folder.graph), startup="damaged, and thrown away")

    def _make(self, open_: Opener, entries: Entries, made_of: Mapping[str, Any]) -> Session:
        """Open the model, and leave an entry for the next time. Raises the model's own errors."""
        maker = _Maker(open_, self)
        path = str(self.folder.path.resolve())
        about = {"path": path, "precision": (self.folder.manifest or {}).get("precision")}
        try:
            _throw_away_older(entries, path, made_of["model"])
            self._require_space(entries)
            entries.add(made_of, about, maker)
        except (OSError, StorageError) as error:
            maker.outcome = f"not used: {error}"
        session = maker.session or open_(self.folder.graph)
        return replace(session, startup=maker.outcome)

    def _require_space(self, entries: Entries) -> None:
        entries.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(entries.folder).free < self.folder.graph_size() * 2 * GROWTH:
            raise OSError(f"too little space is left at {entries.folder}")


@dataclass
class _Maker:
    """Fills a folder with what the next opening maps, if that is worth keeping."""

    open_: Opener
    cache: StartupCache
    session: Session | None = None
    outcome: str = "made"

    def __call__(self, folder: Path) -> str | None:
        """Why there is nothing to keep, or None. `session` is open then, either way.

        Raises OSError for what may be otherwise the next time, such as a full disk.
        """
        graph, saved = self.cache.folder.graph, folder / GRAPH
        try:
            plain = self.open_(graph, save_to=saved)
        except Gpt2OnnxError as error:
            self.session = self.open_(graph)  # raises, too, if the model is at fault
            raise OSError(f"ONNX Runtime can't save it: {error}") from error
        if refused := self._judge(plain, saved):
            self.outcome = f"not used: {refused}"
        return refused

    def _judge(self, plain: Session, saved: Path) -> str | None:
        """What is wrong with what was saved, which is `session` if nothing is. Raises OSError."""
        self.session = plain
        if not is_aligned(saved):
            return "its packed matrices would lie at other addresses"
        try:
            mapped = self.open_(saved, optimised=True)
        except Gpt2OnnxError as error:
            raise OSError(f"what ONNX Runtime saved can't be opened: {error}") from error
        expected, found = map(self.cache.prove, (plain, mapped))
        if expected.tobytes() != found.tobytes():
            return "what ONNX Runtime saved gives other logits"
        self.session = mapped
        return None


def _opener(how: How) -> Opener:
    def open_(model: Path, *, save_to: Path | None = None, optimised: bool = False) -> Session:
        setup = replace(how.setup, save_to=save_to, optimised=optimised)
        return create(model, replace(how, setup=setup))

    return open_


def _packing(how: How) -> Mapping[str, Any]:
    """What decides how a matrix is packed, besides the model and the processor."""
    ort = library.onnxruntime()
    return {
        "onnxruntime": [ort.__version__, ort.get_build_info()],
        "settings": [packing_settings(), list(how.provider.disabled_optimizers)],
    }


def _throw_away_older(entries: Entries, path: str, model: Mapping[str, Any]) -> None:
    """Remove entries of the same folder's former weights: it was exported again.

    Those of another ONNX Runtime or processor stay until their room is wanted: environments and
    machines may share a folder, and would make theirs anew in turns.
    """
    for entry in entries:
        if entry.about.get("path") == path and entry.made_of.get("model") != model:
            entries.remove(entry.path)


def startup_entries() -> Entries:
    """The user's own.

    Raises ParameterError where their size limit can't be read, StorageError where there is no
    place for them.
    """
    return Entries(cache_folder() / FOLDER, size_limit())
