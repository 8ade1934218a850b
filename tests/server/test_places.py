"""Places: no more requests are understood at once than the engines will take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gpt2onnx import Model
from gpt2onnx.errors import QueueFullError
from gpt2onnx.server.places import Places
from tests.raising import raises
from tests.server.conftest import Running, serving

PATH = "/v1/completions"
BODY = {"prompt": "def", "max_tokens": 2, "temperature": 0}


def places(*rooms: int) -> Places:
    engines = [
        SimpleNamespace(room=room, stats=lambda: SimpleNamespace(waiting=7)) for room in rooms
    ]
    models: Any = [SimpleNamespace(engine=engine) for engine in engines]
    return Places(models)


def test_as_many_as_there_is_room_for() -> None:
    found = places(2)
    with found.take(), found.take():
        with raises(QueueFullError, found=9, expected=9):
            found.require()
        with raises(QueueFullError, found=9, expected=9):
            found.take()
        assert found.taken == 2
    found.require()
    assert found.taken == 0


def test_one_that_is_given_back_is_another_s() -> None:
    found = places(1)
    with found.take() as place:
        place.give_back()
        place.give_back()
        with found.take():
            assert found.taken == 1
    assert found.taken == 0


def test_of_several_models_one_that_has_room_is_enough() -> None:
    places(0, 1).require()
    with raises(QueueFullError, found=14, expected=14):
        places(0, 0).require()


def test_what_is_being_understood_has_its_place(
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    """One row and one place: of three at once one is refused, before the others are understood."""
    going_on, begun = threading.Semaphore(0), threading.Semaphore(0)
    prompt_ids = Model.prompt_ids

    def slowly(self: Model, *given: Any, **more: Any) -> Any:
        begun.release()
        assert going_on.acquire(timeout=60)
        return prompt_ids(self, *given, **more)

    monkeypatch.setattr(Model, "prompt_ids", slowly)
    with serving({"demo": model}, max_rows=1, max_waiting=1) as server:
        found: list[Any] = []
        threads = [
            threading.Thread(target=lambda: found.append(server.ask(PATH, BODY))) for _ in range(2)
        ]
        for each in threads:
            each.start()
        for _ in threads:
            assert begun.acquire(timeout=60)
        refused(server)
        going_on.release()
        eventually(lambda: len(found) == 1)  # what an engine has just taken waits for its turn
        going_on.release(9)
        for each in threads:
            each.join(60)
        assert [status for status, *_ in found] == [200, 200]
        assert server.ask(PATH, BODY)[0] == 200  # all places are free again
        assert server.ask(PATH, {**BODY, "max_tokens": -1})[0] == 400
        assert server.ask(PATH, BODY)[0] == 200


def refused(server: Running) -> None:
    status, answer, headers = server.ask(PATH, {"no such field": 1})
    assert (status, answer["error"]["code"]) == (503, "queue_full")
    assert int(headers["retry-after"]) >= 1
    assert server.ask(PATH, b"no JSON", headers={"Content-Type": "text/plain"})[0] == 503
    assert server.ask("/tokenize", {"prompt": 1})[0] == 400
