from __future__ import annotations

import os
from collections.abc import Callable

import pytest

import gpt2onnx
from gpt2onnx import cli, errors
from gpt2onnx.cli import doctor
from tests.cli.conftest import Run


@pytest.fixture
def doctor_does(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Put a failure in the place of a command."""

    def fail_with(error: BaseException) -> None:
        def run(args: object) -> None:
            raise error

        monkeypatch.setattr(doctor, "run", run)

    return fail_with


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"gpt2onnx {gpt2onnx.__version__}\n", "")


def test_help_lists_the_commands(run: Run) -> None:
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    for name, summary in cli.COMMANDS.items():
        assert f"  {name} " in out
        assert summary in out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_has_its_help(run: Run, name: str) -> None:
    status, out, err = run(name, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: gpt2onnx {name} ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "the following arguments are required: COMMAND; see gpt2onnx --help"),
        (("--foo",), "the following arguments are required: COMMAND; see gpt2onnx --help"),
        (("doctor", "x"), "unrecognized arguments: x; see gpt2onnx doctor --help"),
        (
            ("export", "x"),
            "the following arguments are required: OUT; see gpt2onnx export --help",
        ),
    ],
)
def test_mistakes(run: Run, given: tuple[str, ...], message: str) -> None:
    assert run(*given) == (2, "", f"gpt2onnx: error: {message}\n")


def test_an_unknown_command(run: Run) -> None:
    status, out, err = run("write")
    assert (status, out) == (2, "")
    assert err.startswith("gpt2onnx: error: argument COMMAND: invalid choice: 'write' (choose from")


@pytest.mark.parametrize(
    ("error", "status"),
    [(errors.PromptError, 2), (errors.HubError, 1), (errors.StorageError, 1)],
)
def test_an_error_is_a_line_and_its_status(
    run: Run, doctor_does: Callable, error: type[errors.Gpt2OnnxError], status: int
) -> None:
    doctor_does(error("what is wrong"))
    assert run("doctor") == (status, "", "gpt2onnx: error: what is wrong\n")


def test_memory_that_ran_out_is_a_line(run: Run, doctor_does: Callable) -> None:
    doctor_does(MemoryError("Unable to allocate 17.2 GiB"))
    told = "gpt2onnx: error: this machine has no memory left: Unable to allocate 17.2 GiB\n"
    assert run("doctor") == (1, "", told)


def test_a_bug_keeps_its_traceback(run: Run, doctor_does: Callable) -> None:
    doctor_does(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run("doctor")


def test_an_os_error_of_ours_keeps_its_traceback(run: Run, doctor_does: Callable) -> None:
    doctor_does(FileNotFoundError(2, "No such file or directory", "lost"))
    with pytest.raises(FileNotFoundError):
        run("doctor")


def test_ctrl_c(run: Run, doctor_does: Callable) -> None:
    doctor_does(KeyboardInterrupt())
    assert run("doctor") == (130, "", "")


@pytest.mark.parametrize(("own", "expected"), [(None, "1"), ("3", "3")])
def test_numpy_starts_no_threads_unless_told_to(
    run: Run, monkeypatch: pytest.MonkeyPatch, own: str | None, expected: str
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", own or "")
    if own is None:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    run("cache")
    assert os.environ["OPENBLAS_NUM_THREADS"] == expected


def test_an_export_has_numpys_threads(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    run("export", "no such folder", "out")
    assert "OPENBLAS_NUM_THREADS" not in os.environ
