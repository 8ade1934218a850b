from __future__ import annotations

import argparse

import pytest

from gpt2onnx.cli.parser import Pairs, Parser
from gpt2onnx.errors import Given, ModelFolderError, Plain


@pytest.fixture
def parser() -> Parser:
    parser = Parser("test", "FILE", "What it does.", ["gpt2onnx test a", "gpt2onnx test b"])
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--do-sample", action=argparse.BooleanOptionalAction)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--option", dest="provider_options", action=Pairs, type=lambda t: t.split())
    return parser


@pytest.mark.parametrize(
    ("given", "option"),
    [
        (Given("top_k", 0), "--top-k 0"),
        (Given("top_k"), "--top-k"),
        (Given("do_sample", True), "--do-sample"),
        (Given("do_sample", False), "--no-do-sample"),
        (Given("do_sample"), "--do-sample"),
        (Given("provider_options", {}), "--option {}"),
        (Given("provider_options"), "--option"),
        (Given("seed"), "--seed"),
        (Given("seed", "a b"), "--seed 'a b'"),
        (Given("seed", Plain("a b")), "--seed a b"),
        (Given("json", True), "--json"),
        (Given("tf32", True), "--tf32"),
        # no option says it
        (Given("json", False), "json=False"),
        (Given("bos_token_id", 3), "bos_token_id=3"),
        (Given("bos_token_id"), "bos_token_id"),
    ],
)
def test_parameters_are_named_as_options(parser: Parser, given: Given, option: str) -> None:
    assert parser.option(given) == option


def test_only_parameters_are_renamed(parser: Parser) -> None:
    """Whatever else a message says, a file's name or a value, stays as it is."""
    error = ModelFolderError("top_k=1/model.onnx: set ", Given("top_k", 2), ", not seed=3")
    assert error.told(parser.option) == "top_k=1/model.onnx: set --top-k 2, not seed=3"
    assert str(error) == "top_k=1/model.onnx: set top_k=2, not seed=3"


def test_an_error_is_one_line(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--top-k", "x"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "gpt2onnx: error: argument --top-k: invalid int value: 'x'; see gpt2onnx test --help\n"
    )


def test_options_are_not_abbreviated(parser: Parser) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["--top", "3"])


def test_pairs_gather_in_a_dict(parser: Parser) -> None:
    assert parser.parse_args([]).provider_options is None
    given = parser.parse_args(["--option", "a 1", "--option", "b 2", "--option", "a 3"])
    assert given.provider_options == {"a": "3", "b": "2"}


def test_help(parser: Parser) -> None:
    text = parser.format_help()
    assert text.startswith("usage: gpt2onnx test FILE [options]\n\nWhat it does.\n")
    assert text.endswith("\nexamples:\n  gpt2onnx test a\n  gpt2onnx test b\n")
