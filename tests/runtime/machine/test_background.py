from __future__ import annotations

import threading

import pytest

from gpt2onnx.runtime.machine.background import Background


def test_the_work_runs_beside_its_caller() -> None:
    go = threading.Event()
    work = Background(lambda: (go.wait(60), threading.current_thread())[1])
    go.set()
    work.wait()
    assert work.result() is not threading.current_thread()


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_what_the_work_raises_is_raised_where_its_result_is_wanted(error: BaseException) -> None:
    def fail() -> None:
        raise error

    work = Background(fail)
    work.wait()
    with pytest.raises(type(error)):
        work.result()
