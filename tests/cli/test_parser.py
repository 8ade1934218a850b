from __future__ import annotations

import argparse

import pytest

from gpt2onnx.cli.parser import Pairs, Parser


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
    ("message", "shown"),
    [
        ("top_k=0: expected more", "--top-k 0: expected more"),
        ("no effect without do_sample=True: set that", "no effect without --do-sample: set that"),
        ("set do_sample=False instead", "set --no-do-sample instead"),
        ("leave top_k out", "leave --top-k out"),
        ("top_k, do_sample came", "--top-k, --do-sample came"),
        ("provider_options={} is empty", "--option {} is empty"),
        ("seed=3", "--seed 3"),
        ("json=True", "--json"),
        ("top_k=/dev/null: expected", "--top-k /dev/null: expected"),
        ("seed=../x.y, seed=.x", "--seed ../x.y, --seed .x"),
        ("tf32=True has no effect", "--tf32 has no effect"),
        # not a parameter, or not said of one
        ("a seed, and json of any kind", "a seed, and json of any kind"),
        ("bos_token_id=3", "bos_token_id=3"),
        ("json=False", "json=False"),
        ("my_top_k=1, top_k_2=3", "my_top_k=1, top_k_2=3"),
        ("/data/top_k/model.onnx", "/data/top_k/model.onnx"),
        ("top_k/model.onnx", "top_k/model.onnx"),
        ("a.top_k", "a.top_k"),
        ("top_k.onnx", "top_k.onnx"),
        ("expected one of 'top_k', 'x'", "expected one of 'top_k', 'x'"),
    ],
)
def test_parameters_are_named_as_options(parser: Parser, message: str, shown: str) -> None:
    assert parser.in_options(message) == shown


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
