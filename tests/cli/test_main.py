from __future__ import annotations

import os
from collections.abc import Callable

import pytest

import gpt2onnx
from gpt2onnx import cli, errors
from gpt2onnx.cli.commands import doctor
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


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file or directory", "lost"), "lost: No such file or direc"),
        (PermissionError(13, "Permission denied", b"\xff"), "\ufffd: Permission denied"),
        (OSError(36, "File name too long", "x" * 5000), "xxxx"),
        (PermissionError(13, "Permission denied", "a\n\x1b[31m"), "a \\x1b[31m: Permission denied"),
        (OSError(28, "No space left on device"), "standard output: No space left on device"),
        (OSError(27, "File too large"), "standard output: File too large"),
        (OSError(24, "Too many open files"), "this system: Too many open files"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "this system: Resource tempora"),
    ],
)
def test_what_the_system_says_is_a_line(
    run: Run, doctor_does: Callable, error: OSError, told: str
) -> None:
    doctor_does(error)
    status, out, err = run("doctor")
    assert (status, out) == (1, "")
    assert err.startswith(f"gpt2onnx: error: {told}")
    assert err.count("\n") == 1
    assert len(err) < 2100


def test_a_librarys_own_os_error_keeps_its_traceback(run: Run, doctor_does: Callable) -> None:
    doctor_does(OSError("can't load it"))
    with pytest.raises(OSError, match="can't load it"):
        run("doctor")


def test_a_long_message_loses_its_middle(run: Run, doctor_does: Callable) -> None:
    doctor_does(errors.PromptError("a" + "x" * 5000 + "z"))
    status, _, err = run("doctor")
    assert (status, len(err)) == (2, len("gpt2onnx: error: \n") + 2003)
    assert err.startswith("gpt2onnx: error: axxx")
    assert err.endswith("xxxz\n")


@pytest.mark.parametrize("value", ["9" * 5000, "-" + "9" * 5000, "a\nb", "\x1b[31m"])
def test_a_mistake_is_one_short_line(run: Run, value: str) -> None:
    status, _, err = run("generate", f"--top-k={value}")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("gpt2onnx: error: argument --top-k: invalid int value: ")
    assert len(err) < 2100


def test_a_nul_is_no_part_of_an_argument(run: Run) -> None:
    for given in (("generate", "a\0b"), ("inspect", "\0"), ("\0",)):
        status, _, err = run(*given)
        assert status == 2
        assert "an argument holds a NUL character" in err


@pytest.mark.parametrize(
    "option", ["--stop-strings", "--choices", "--regex", "--negative-prompt", "--provider-option"]
)
def test_what_is_no_utf8_in_an_argument(run: Run, option: str) -> None:
    status, _, err = run("generate", "x", option, "k=\udcff")
    expected = "expected UTF-8, found something else at character 2"
    assert (status, err) == (
        2,
        f"gpt2onnx: error: argument {option}: {expected}; see gpt2onnx generate --help\n",
    )


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
