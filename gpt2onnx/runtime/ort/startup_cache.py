"""The start-up cache: models as they were optimised and packed, mapped at the next start.

Opened plainly, every matrix is packed into memory of the process's own. What was packed can be
saved and mapped the next time: pages that the system can drop and that processes share. It fits one
library, one processor and one set of options only, so an entry is made of all of these, and it is
kept only if the model that is opened from it gives the same logits, bit for bit.

Stands above the session: opens a model as that does, from an entry or to make one. Knows when an
entry fits and what makes one good; what is in one is startup_forms.py's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gpt2onnx.errors import Gpt2OnnxError, StorageError
from gpt2onnx.files import unicode_name
from gpt2onnx.paths import cache_folder
from gpt2onnx.runtime.folder.model_folder import ModelFolder
from gpt2onnx.runtime.ort.kernels import Kernels
from gpt2onnx.runtime.ort.session import How, Model, Session, create
from gpt2onnx.runtime.ort.startup_entries import Entries, Entry, size_limit
from gpt2onnx.runtime.ort.startup_forms import Form, Optimised, Packed

FOLDER = "startup"
# A smaller model opens in the time that looking for its entry takes.
MIN_SIZE = 32 << 20


@dataclass(frozen=True)
class StartupCache:
    """The cache as one model sees it. `prove` gives logits of a session, for comparing."""

    folder: ModelFolder
    prove: Callable[[Session], NDArray[Any]]
    kernels: Kernels | None = None  # where the folder's graph is in their operators

    def create(self, model: Model, how: How) -> Session:
        """As session.create, of the folder's graph: from its entry, or making one.

        Only where the provider packs matrices. The session's `startup` says what came of it:
        whatever keeps the cache from being used, the model is opened.
        """
        if not how.provider.packs:
            return create(model, how)
        graph = self.folder.graph
        form = Packed(graph, how, self.kernels) if self.kernels else Optimised(graph, how)
        try:
            entries, made_of = self._place(form)
        except StorageError as error:
            return replace(form.open(), startup=f"not used: {error}")
        entry = entries.find(made_of)
        if entry is None:
            return self._make(form, entries, made_of)
        return self._reopen(form, entries, entry)

    def create_beside(self, model: Model, how: How) -> Session:
        """As session.create, of another graph, whose nodes have the folder's graph's weights.

        With those that its entry has packed, where there is one; makes none.
        """
        if self.kernels is None:
            return create(model, how)
        form = Packed(model, how, self.kernels)
        try:
            entries, made_of = self._place(form)
        except StorageError as error:
            return replace(form.open(), startup=f"not used: {error}")
        entry = entries.find(made_of)
        if entry is None or entry.refused:
            return form.open()
        try:
            return replace(form.reopen(entry.path), startup="used")
        except Gpt2OnnxError as error:
            return replace(form.open(), startup=f"not used: {error}")

    def _place(self, form: Form) -> tuple[Entries, Mapping[str, Any]]:
        """The entries, and what the model's own is made of. Raises StorageError: it has none."""
        if obstacle := self._obstacle(form):
            raise StorageError(obstacle)
        made_of = {**form.made_of(), "model": self.folder.identity()}
        entries = startup_entries()
        _require_utf8(entries.folder)
        return entries, made_of

    def _obstacle(self, form: Form) -> str | None:
        """Why this model can't have an entry, or isn't worth one."""
        size, limit = self.folder.graph_size(), size_limit()
        if limit == 0:
            return "its size limit is 0"
        if size < MIN_SIZE:
            return f"the model is smaller than {MIN_SIZE >> 20} MiB"
        if (needed := size * form.growth) > limit:
            return f"an entry would take {needed / 1e9:.1f} GB, the limit is {limit / 1e9:g}"
        return None

    def _reopen(self, form: Form, entries: Entries, entry: Entry) -> Session:
        if entry.refused:
            return replace(form.open(), startup=f"not used: {entry.refused}")
        try:
            return replace(form.reopen(entry.path), startup="used")
        except Gpt2OnnxError:  # damaged, or another process has just removed it
            entries.remove(entry.path)
            return replace(form.open(), startup="damaged, and thrown away")

    def _make(self, form: Form, entries: Entries, made_of: Mapping[str, Any]) -> Session:
        """Open the model, and leave an entry for the next time. Raises the model's own errors."""
        maker = _Maker(form, self.prove)
        precision = (self.folder.manifest or {}).get("precision")
        path = str(self.folder.path.resolve())
        about = {"path": path, "precision": precision, "graph": form.graph}
        try:
            throw_away_older(entries, about, made_of["model"])
            self._require_space(entries, form)
            entries.add(made_of, about, maker)
        except (OSError, StorageError) as error:
            maker.outcome = f"not used: {error}"
        session = maker.session or form.open()
        return replace(session, startup=maker.outcome)

    def _require_space(self, entries: Entries, form: Form) -> None:
        entries.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(entries.folder).free < self.folder.graph_size() * 2 * form.growth:
            raise OSError(f"too little space is left at {entries.folder}")


@dataclass
class _Maker:
    """Fills a folder with what the next opening maps, if that is worth keeping."""

    form: Form
    prove: Callable[[Session], NDArray[Any]]
    session: Session | None = None
    outcome: str = "made"

    def __call__(self, folder: Path) -> str | None:
        """Why there is nothing to keep, or None. `session` is open then, either way.

        Raises OSError for what may be otherwise the next time, such as a full disk.
        """
        try:
            plain = self.form.save(folder)
        except Gpt2OnnxError as error:
            self.session = self.form.open()  # raises, too, if the model is at fault
            raise OSError(f"it can't be saved: {error}") from error
        if refused := self._judge(plain, folder):
            self.outcome = f"not used: {refused}"
        return refused

    def _judge(self, plain: Session, folder: Path) -> str | None:
        """What is wrong with what was saved, which is `session` if nothing is. Raises OSError."""
        self.session = plain
        if fault := self.form.fault(folder):
            return fault
        try:
            mapped = self.form.reopen(folder)
        except Gpt2OnnxError as error:
            raise OSError(f"what was saved can't be opened: {error}") from error
        expected, found = map(self.prove, (plain, mapped))
        if expected.tobytes() != found.tobytes():
            return "what was saved gives other logits"
        self.session = mapped
        return None


def _require_utf8(folder: Path) -> None:
    """Raises StorageError for a place that ONNX Runtime can't be told."""
    if (name := unicode_name(str(folder))) != str(folder):
        raise StorageError(f"{name}: expected a name in UTF-8, as ONNX Runtime takes them")


def throw_away_older(entries: Entries, about: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Remove entries of the same graph's former weights: it was exported again.

    Those of another library or processor stay until their room is wanted: environments and
    machines may share a folder, and would make theirs anew in turns.
    """
    for entry in entries:
        same = all(entry.about.get(name) == about[name] for name in ("path", "graph"))
        if same and entry.made_of.get("model") != model:
            entries.remove(entry.path)


def startup_entries() -> Entries:
    """The user's own.

    Raises ParameterError where their size limit can't be read, StorageError where there is no
    place for them.
    """
    return Entries(cache_folder() / FOLDER, size_limit())
