"""gpt2onnx generate with a draft, or with a prompt lookup."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt2onnx.cli.commands import generate
from gpt2onnx.cli.options import parameters
from tests.cli.conftest import Run

NEW = ("--max-new-tokens", 12)


def text(out: str) -> str:
    """What was printed; of JSON the text alone, since log-probabilities are rounded otherwise."""
    return str(json.loads(out)["text"]) if out.startswith("{") else out


def test_options_become_parameters() -> None:
    options = ["--num-assistant-tokens=3", "--prompt-lookup-num-tokens=4"]
    options += ["--max-matching-ngram-size=2", "--assistant-confidence-threshold=0.3"]
    args = generate.parser().parse_args(options)
    assert parameters.given_parameters(args) == {
        "num_assistant_tokens": 3,
        "prompt_lookup_num_tokens": 4,
        "max_matching_ngram_size": 2,
        "assistant_confidence_threshold": 0.3,
    }


@pytest.mark.parametrize("how", [(), ("--json",), ("--no-stream", "--echo")])
def test_a_draft_and_its_statistics(run: Run, folder: str, how: tuple[str, ...]) -> None:
    given = ("generate", "hello", "--model", folder, *NEW, *how)
    plain = run(*given)
    assert text(run(*given, "--draft", folder)[1]) == text(plain[1])
    # Random weights are never sure.
    how_drafted = ("--num-assistant-tokens", 3, "--assistant-confidence-threshold", 0)
    _, out, err = run(*given, "--draft", folder, *how_drafted, "--stats")
    assert text(out) == text(plain[1])
    # 12 tokens: the first, 3 + 1, 5 + 1, and one that nothing is drafted for
    drafts = "drafts    8 of 8 tokens kept (100.0%), 3.67 tokens a step"
    assert err.splitlines()[-1] == drafts


def test_a_lookup_of_two_texts(run: Run, folder: str) -> None:
    given = ("generate", "abababab", "--model", folder, *NEW, "--json", "--stats")
    drawn = (*given, "--do-sample", "--seed", 1, "--num-return-sequences", 2)
    _, plain, _ = run(*drawn)
    _, out, err = run(*drawn, "--prompt-lookup-num-tokens", 4)
    assert [json.loads(line)["token_ids"] for line in out.splitlines()] == [
        json.loads(line)["token_ids"] for line in plain.splitlines()
    ]
    assert [line.split()[0] for line in err.splitlines()][-2:] == ["drafts", "drafts"]


def test_the_bundled_draft(run: Run, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("generate", "hello", "--model", folder, *NEW)
    wanted = run(*given)
    monkeypatch.setattr("gpt2onnx.demo.folder", lambda *which, **made: Path("not there"))
    monkeypatch.setattr("gpt2onnx.demo.exported", lambda *which, **made: Path(folder))
    announced = "gpt2onnx: exporting the bundled draft, once\n"
    assert run(*given, "--draft", "demo-draft") == (*wanted[:2], announced)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--num-assistant-tokens", 3), "--num-assistant-tokens 3 has no effect without --draft"),
        (
            ("--max-matching-ngram-size", 3),
            "--max-matching-ngram-size 3 has no effect without --prompt-lookup-num-tokens",
        ),
        (("--draft", "/no/such"), "/no/such: "),
    ],
)
def test_mistakes_are_one_line(
    run: Run, folder: str, given: tuple[object, ...], message: str
) -> None:
    status, out, err = run("generate", "hello", "--model", folder, *given)
    assert (status, out) == (2, "")
    assert err.startswith(f"gpt2onnx: error: {message}")
    assert err.count("\n") == 1
