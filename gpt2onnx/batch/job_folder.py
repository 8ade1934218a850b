"""The folder of a job that isn't done yet, beside its output, and who may use it.

A lock in it is held by the job and by all of its workers, and dies with the last of them: so no
second job writes there, and one that goes on waits until the killed one's workers have ended.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gpt2onnx.batch.manifest import Manifest, read_manifest
from gpt2onnx.batch.merge import ANSWERS, clear
from gpt2onnx.errors import (
    Advised,
    Given,
    Gpt2OnnxError,
    OutputExistsError,
    ParameterError,
    StorageError,
)
from gpt2onnx.files import as_path

LOCK = "lock"
# Seconds that workers of a killed job have to end: they may still be starting.
PATIENCE = 60.0


class Places(NamedTuple):
    """Where a job's files go."""

    output: Path
    errors: Path

    @property
    def folder(self) -> Path:
        return self.output.with_name(f"{self.output.name}.job")

    @classmethod
    def of(cls, output: str | Path, errors: str | Path | None) -> Places:
        """Raises ParameterError for places that no file can be written to."""
        path = _place("output", output)
        if errors is None:
            return cls(path, path.with_name(f"{path.name.removesuffix('.jsonl')}.errors.jsonl"))
        places = cls(path, _place("errors", errors))
        if places.errors == path:
            raise ParameterError(Given("errors", str(errors)), ": expected another file")
        return places


def _place(name: str, given: str | Path) -> Path:
    path = Path(os.path.realpath(as_path(given, name, ParameterError)))
    if path.exists() and not path.is_file():
        raise ParameterError(f"{given}: expected a file, or a name that is free, for {name}")
    if not path.parent.is_dir():
        raise ParameterError(f"{given}: there is no folder {path.parent}; create it first")
    return path


class JobFolder:
    """A job's folder, locked. Raises OutputExistsError where there is something to be kept."""

    def __init__(self, places: Places, *, resume: bool, force: bool) -> None:
        if resume and force:
            raise ParameterError(
                *(Given("resume", True), " goes on with a job, and ", Given("force", True)),
                " begins it anew: leave one out",
            )
        self.places, self.path = places, places.folder
        self._resume, self._force = resume, force
        self.manifest: Manifest | None = None  # of the job that goes on
        self.lock = -1

    def __enter__(self) -> JobFolder:
        with self.storage_errors():
            self.lock = self._locked()
            try:
                self.manifest = self._found()
            except BaseException:
                self._leave()
                raise
        return self

    def __exit__(self, *raised: object) -> None:
        self._leave()

    def begin(self, manifest: Manifest) -> None:
        """Write the job's manifest, or see that it is the one that was begun. Raises OSError."""
        if self.manifest:
            self.manifest.require_same(manifest, self.path)
        else:
            manifest.write(self.path)
            self.manifest = manifest

    def end(self) -> None:
        """The job is done: nothing of it is left. Raises OSError."""
        clear(self.path, keep=LOCK)
        self.manifest = None

    @contextmanager
    def storage_errors(self) -> Iterator[None]:
        """What the system says of files, and that what is done is kept. Raises StorageError."""
        try:
            yield
        except OSError as error:
            if error.errno is None or isinstance(error, Gpt2OnnxError):
                raise
            raise self._stopped(f"{error.filename or self.path}: {error.strerror}") from error
        except StorageError as error:
            raise self._stopped(str(error)) from error

    def _stopped(self, why: str) -> StorageError:
        if self.manifest is None:
            return StorageError(why)
        return StorageError(
            f"{why}; what is done is kept in {self.path}: mend that, and go on with ",
            Advised("resume", True),
        )

    def _found(self) -> Manifest | None:
        """What was begun, where the job goes on with it; else the folder is empty then."""
        manifest = None if self._force else read_manifest(self.path)
        if manifest is None:
            self._require_free()
            clear(self.path, keep=LOCK)
        elif not self._resume:
            raise OutputExistsError(
                f"{self.path}: an unfinished job is there; ",
                *(Advised("resume", True), " goes on with it, ", Advised("force", True)),
                " begins anew",
                path=self.path,
            )
        elif not manifest.replaces and (self.path / ANSWERS).exists():
            self._require_free(" since the job was begun; move it away")
        return manifest

    def _require_free(self, *why: str | Given) -> None:
        """Raises OutputExistsError where something is in the output's place."""
        if not why:
            why = (", and no unfinished job is beside it; ", Advised("force", True), " replaces it")
        for path in (self.places.output, self.places.errors):
            if path.exists() and not self._force:
                raise OutputExistsError(f"{path}: exists", *why, path=path)

    def _locked(self) -> int:
        """The descriptor of the folder's lock, held."""
        end = time.monotonic() + PATIENCE
        while True:
            self.path.mkdir(exist_ok=True)
            lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), (self.path / LOCK).stat()):
                    return lock
            except FileNotFoundError:  # its job has just been done
                pass
            except BlockingIOError:
                if time.monotonic() > end:
                    os.close(lock)
                    raise OutputExistsError(
                        f"{self.path}: another process is at work on this job; wait for its end",
                        path=self.path,
                    ) from None
                time.sleep(0.1)
            os.close(lock)

    def _leave(self) -> None:
        """Let the lock go; a folder in which no job was begun goes, too."""
        if self.manifest is None and not (self.path / "manifest.json").exists():
            clear(self.path, keep=LOCK)
            (self.path / LOCK).unlink()
            self.path.rmdir()
        os.close(self.lock)
