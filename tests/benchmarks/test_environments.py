from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks import environments
from benchmarks.environments import Environment, InstallError, folder_size


@pytest.fixture(autouse=True)
def _no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip finds nothing, and asks nobody."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


def test_what_cannot_be_installed_is_said_in_pips_words() -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "there-is-no-such-engine==1.0"]
    with pytest.raises(InstallError, match=r"No matching distribution .*there-is-no-such-engine"):
        environments.run(command)


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """A pipe that has nobody left to write into it is at its end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(InstallError, match=r"sh had not ended after 0\.5 s"):
        environments.run(["sh", "-c", f"sleep 1000 > {pipe} & wait"], 0.5)
    os.set_blocking(reading, True)
    with os.fdopen(reading, "rb") as written:
        assert written.read() == b""


def test_one_that_was_made_is_kept_and_one_that_changed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Environment("here", ())
    record = tmp_path / "here" / "made.json"
    record.parent.mkdir()
    record.write_text(json.dumps(environment._description() | {"bytes": 2_500_000}))
    environment.make(tmp_path)  # and no venv
    assert not environment.python(tmp_path).exists()
    assert environment.installed_mb(tmp_path) == 2.5
    ran: list[list[str]] = []
    monkeypatch.setattr(environments, "run", lambda command, *_: ran.append(command))
    with pytest.raises(FileNotFoundError):  # since nobody made the venv
        Environment("here", ("engine==2.0",)).make(tmp_path)
    assert [command[-1] for command in ran] == [str(record.parent), "engine==2.0"]
    assert not record.exists()


def test_packages_that_run_from_where_they_are_count(tmp_path: Path) -> None:
    (tmp_path / "package" / "__pycache__").mkdir(parents=True)
    (tmp_path / "package" / "a.py").write_bytes(b"x" * 1000)
    (tmp_path / "package" / "__pycache__" / "a.pyc").write_bytes(b"x" * 1000)
    assert folder_size(tmp_path) == 1000
    record = tmp_path / "here" / "made.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"bytes": 1000}))
    beside = Environment("here", (), beside=(tmp_path / "package",))
    assert beside.installed_mb(tmp_path) == 0.002


def test_what_is_built_from_a_folder_is_made_again_when_the_folder_changed(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    source = tmp_path / "project" / "a.cpp"
    source.write_text("int a;")
    record = tmp_path / "here" / "made.json"
    record.parent.mkdir()
    environment = Environment("here", (), built=(source.parent,))
    record.write_text(json.dumps(environment._description() | {"bytes": 0}))
    compiled = source.parent / "__pycache__" / "a.pyc"
    compiled.parent.mkdir()
    compiled.touch()
    environment.make(tmp_path)
    assert environment._description() == environment._record(tmp_path)
    source.write_text("int b;")
    assert environment._description() != environment._record(tmp_path)
