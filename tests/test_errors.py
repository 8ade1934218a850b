"""Every error is in the tree of its module, and in docs/errors.md."""

from __future__ import annotations

import inspect
import pickle
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx import errors
from gpt2onnx.errors import (
    Advised,
    CheckpointError,
    Given,
    Gpt2OnnxError,
    ParameterError,
    Plain,
    RequestError,
    WeightsError,
)
from tests.raising import raises

ROOT = Path(__file__).parent.parent
ERRORS = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, Gpt2OnnxError)
]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "errors.py"))


def test_the_document_is_up_to_date(script: dict[str, Any]) -> None:
    assert script["FILE"] == ROOT / "docs" / "errors.md"
    assert script["FILE"].read_text(encoding="utf-8") == script["document"](), (
        "run scripts/errors.py and commit docs/errors.md"
    )


def test_the_document_has_every_error_once(script: dict[str, Any]) -> None:
    heads = re.findall(r"^## (\w+)$", script["document"](), re.MULTILINE)
    assert heads == [error.__name__ for error in ERRORS]


@pytest.mark.parametrize("error", ERRORS)
def test_it_says_when_it_comes_and_what_to_do(error: type[Gpt2OnnxError]) -> None:
    when, *what_to_do = (inspect.getdoc(error) or "").split("\n\n")
    assert when.endswith(".")
    assert what_to_do
    assert error.__doc__ not in [base.__doc__ for base in error.__mro__[1:]]


def test_the_tree_of_the_module_is_the_classes(script: dict[str, Any]) -> None:
    lines = (errors.__doc__ or "").splitlines()
    drawn = [
        (len(line) - len(line.lstrip("│├└─ ")), line.lstrip("│├└─ ").split()[0])
        for line in lines
        if re.match(r"[│├└]|Gpt2OnnxError$", line)
    ]
    classes = [(4 * depth, each.__name__) for depth, each in script["family"](Gpt2OnnxError)]
    assert drawn == classes


def told() -> Gpt2OnnxError:
    return ParameterError(
        *(Given("top_k", 0), ": expected more, or ", Advised("top_k", 4), " in "),
        *(Given("out", Plain("a/b")), ",\nor leave ", Given("seed"), " out"),
    )


def test_a_message_is_text_and_parameters() -> None:
    assert str(told()) == "top_k=0: expected more, or top_k=4 in out=a/b, or leave seed out"
    shouting = told().told(lambda given: given.name.upper())
    assert shouting == "TOP_K: expected more, or TOP_K in OUT, or leave SEED out"


def test_the_values_that_came_are_fields() -> None:
    """Not what is advised, and not what is named alone."""
    assert told().parameters == {"top_k": 0, "out": "a/b"}
    assert told().named == ("top_k", "out", "seed")


def test_a_file_and_what_in_it_are_fields() -> None:
    error = WeightsError("a/b: expected x", path="a/b", name="x", found=3, expected=4)
    assert (error.path, error.name) == (Path("a/b"), "x")
    assert (error.found, error.expected) == (3, 4)
    assert (told().path, told().name, told().found, told().expected) == (None, None, None, None)


@pytest.mark.parametrize(
    "error",
    [
        told(),
        WeightsError("a/b", path="a/b", name="x", found=3, expected=4),
        RequestError("no", 429, retry_after=3, found=5),
    ],
    ids=repr,
)
def test_an_error_goes_through_a_pipe_whole(error: Gpt2OnnxError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_test_says_which_error_it_expects() -> None:
    with raises(WeightsError, path=Path("a"), name="x"):
        raise WeightsError("a: x", path="a", name="x")
    for other in (WeightsError("a: y", path="a", name="y"), WeightsError("x")):
        with pytest.raises(AssertionError), raises(WeightsError, path=Path("a"), name="x"):
            raise other
    with pytest.raises(AssertionError), raises(CheckpointError, name="x"):
        raise WeightsError("a", name="x")  # of a kind below
    with pytest.raises(AssertionError, match="say which"), raises(WeightsError):
        raise WeightsError("a")
