from __future__ import annotations

import json
import math

import pytest

from tests.cli.conftest import Run


def test_the_table_has_the_same_figures(run: Run, folder: str) -> None:
    scored = json.loads(run("score", "hé y", "--model", folder, "--json")[1])
    _, out, _ = run("score", "hé y", "--model", folder)
    header, *rows, tokens, perplexity, bits = out.splitlines()
    assert header.split() == ["id", "token", "logprob", "probability"]
    assert len(rows) == len(scored["tokens"]) == 5
    for row, token in zip(rows, scored["tokens"], strict=True):
        assert row.startswith(str(token["id"]))
        assert repr(token["text"]) in row
        logprob, probability = map(float, row.split()[-2:])
        assert logprob == pytest.approx(token["logprob"], abs=1e-4)
        assert probability == pytest.approx(math.exp(token["logprob"]), rel=1e-2)
    assert len({line.index("'") for line in rows}) == 1
    assert tokens == "tokens 5"
    assert perplexity == f"perplexity {scored['perplexity']:.4f}"
    assert bits == f"bits per byte {scored['bits_per_byte']:.4f}"


def test_without_bos_the_first_token_is_context(run: Run, folder: str) -> None:
    whole = json.loads(run("score", "abc", "--model", folder, "--json")[1])
    rest = json.loads(run("score", "abc", "--no-bos", "--model", folder, "--json")[1])
    assert [token["text"] for token in whole["tokens"]] == ["a", "b", "c"]
    assert [token["text"] for token in rest["tokens"]] == ["b", "c"]
    assert rest["tokens"][0]["logprob"] != whole["tokens"][1]["logprob"]


@pytest.mark.parametrize("given", [("",), ("a", "--no-bos")])
def test_nothing_to_score(run: Run, folder: str, given: tuple[str, ...]) -> None:
    status, out, err = run("score", *given, "--model", folder)
    assert (status, out) == (2, "")
    assert err.startswith("gpt2onnx: error: nothing to score: ")
    assert err.count("\n") == 1
