from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gpt2onnx import doctor
from gpt2onnx.cli.commands import doctor as command
from tests.cli.conftest import Run


def test_the_report(run: Run) -> None:
    assert run("doctor") == (0, f"{doctor.report()}\n", "")


def test_json(run: Run) -> None:
    status, out, err = run("doctor", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == json.loads(json.dumps(doctor.report().as_dict()))


def test_without_a_provider_that_runs_the_status_is_1(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = doctor.report()
    broken = tuple(replace(provider, runs=False) for provider in found.providers)
    for providers in ((), broken):
        sick = replace(found, providers=providers, advice=("install it",))
        monkeypatch.setattr(command, "report", lambda sick=sick: sick)
        status, out, _ = run("doctor")
        assert status == 1
        assert "install it" in out
