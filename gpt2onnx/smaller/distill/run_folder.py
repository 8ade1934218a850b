"""The folder of a run that isn't over, beside the student's place: what --resume goes on from.

    run.json     what was asked for
    corpus.npz   the tokens, so that a text is neither read nor written again
    state.pt     student, optimizer and step, as of the last save
    best-N/      the best student so far, of step N: a checkpoint

A file is written beside its place and renamed, so a kill at any moment leaves a whole one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt2onnx.errors import (
    CheckpointError,
    Given,
    OutputExistsError,
    ParameterError,
    StorageError,
    shown,
)
from gpt2onnx.export.writing.folder import write_json
from gpt2onnx.files import path_errors, read_json
from gpt2onnx.smaller.checkpoint import NewCheckpoint
from gpt2onnx.smaller.distill.corpus import Corpus

DIGESTS = ("teacher", "texts", "held_out")
"""What of a run is kept as digests, which say nothing to a reader."""

RUN, CORPUS, STATE, BEST = "run.json", "corpus.npz", "state.pt", "best-"


class RunFolder:
    """Raises StorageError where it can't be written."""

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f"{out.name}.distill")

    def begin(self, asked: Mapping[str, Any], corpus: Corpus) -> None:
        with _storage(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._clear()  # of what a removal that was cut short left
            with _renamed(self.path / CORPUS) as file:
                corpus.save(file)
            # The last: with it there is something to resume.
            with _renamed(self.path / RUN) as file:
                write_json(file, asked)

    @property
    def is_there(self) -> bool:
        """Whether there is a run that isn't over."""
        return (self.path / RUN).exists()

    def require_none(self) -> None:
        """Raise OutputExistsError where a run isn't over."""
        if self.is_there:
            raise OutputExistsError(
                f"{self.path}: a run that isn't over; go on with it by ",
                *(Given("resume"), ", or remove it"),
                path=self.path,
            )

    def asked(self) -> dict[str, Any]:
        """What the run that isn't over was asked for. Raises CheckpointError."""
        if not self.is_there:
            raise CheckpointError(
                f"{self.path}: expected a run to go on with, found none", path=self.path
            )
        return read_json(self.path / RUN, CheckpointError)

    def require_same(self, asked: Mapping[str, Any]) -> None:
        """Raise ParameterError where the run that isn't over was asked for something else."""
        before = self.asked()
        for name, value in json.loads(json.dumps(asked)).items():
            if before.get(name) != value:
                given = Given(name) if name in DIGESTS else Given(name, value)
                was = "others" if name in DIGESTS else shown(before.get(name))
                raise ParameterError(
                    given,
                    f": the run in {self.path} was begun with {was}; give the same, or begin"
                    " another elsewhere",
                )

    def corpus(self) -> Corpus:
        try:
            with path_errors(self.path, CheckpointError):
                return Corpus.load(self.path / CORPUS)
        except (ValueError, KeyError, EOFError) as error:
            raise CheckpointError(
                f"{self.path / CORPUS}: damaged: {error!s:.100}", path=self.path / CORPUS
            ) from error

    def save_state(self, state: Mapping[str, Any]) -> None:
        import torch

        with _storage(self.path), _renamed(self.path / STATE) as path, path.open("wb") as file:
            # Of a path it would tell of a full disk by a RuntimeError.
            torch.save(dict(state), file)

    def state(self, device: str) -> dict[str, Any] | None:
        """What `save_state` was given last, with tensors on a device."""
        import torch

        if not (self.path / STATE).exists():
            return None
        try:
            state: dict[str, Any] = torch.load(
                self.path / STATE, map_location=device, weights_only=True
            )
        except Exception as error:  # of any type: whatever the file holds
            raise CheckpointError(
                f"{self.path / STATE}: damaged: {error!s:.100}", path=self.path / STATE
            ) from error
        return state

    @property
    def best(self) -> Path | None:
        """The best student's checkpoint."""
        found = [path for path in self.path.glob(f"{BEST}*") if path.name[len(BEST) :].isdigit()]
        return max(found, key=lambda path: int(path.name[len(BEST) :]), default=None)

    def keep(self, student: NewCheckpoint, step: int) -> None:
        """Write a student that is better than those before."""
        place = self.path / f"{BEST}{step:09}"
        if place.exists():  # of a run that was killed before it saved its state
            shutil.rmtree(place)
        before = self.best
        student.write(place)
        if before:
            shutil.rmtree(before)

    def remove(self) -> None:
        """Remove what a run wrote, and the folder where nothing else is in it."""
        with _storage(self.path):
            self._clear()
            if not any(self.path.iterdir()):
                self.path.rmdir()

    def _clear(self) -> None:
        for name in (RUN, STATE, CORPUS):
            (self.path / name).unlink(missing_ok=True)
        for folder in self.path.glob(f"{BEST}*"):
            shutil.rmtree(folder)


@contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """A file beside `path`, with the same ending, that takes its place at the block's end."""
    beside = path.with_name(f".new-{path.name}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _storage(path: Path) -> Any:
    return path_errors(path, StorageError, "free some space or choose another place")
