from __future__ import annotations

import html
import math
from pathlib import Path

import pytest

import gpt2onnx
from tests.cli.conftest import Run


def test_a_line_for_each_step(run: Run, folder: str, model: gpt2onnx.Model) -> None:
    given = ("--do-sample", "--seed", 4, "--max-new-tokens", 6)
    status, out, err = run("trace", "abc", "--model", folder, "--top", 3, *given)
    header, *lines, end = out.splitlines()
    tokens = model.stream("abc", top_logprobs=3, do_sample=True, seed=4, max_new_tokens=6)
    assert (status, err, end) == (0, "", "end: length")
    assert header.split() == ["step", "length", "token", "probability", "others"]
    for step, (line, token) in enumerate(zip(lines, tokens, strict=True), 1):
        chosen = model.tokenizer.decode([token.id], skip_special_tokens=False)
        others = [other for other in token.alternatives if other.id != token.id]
        shown = [f"{o.text!r} {math.exp(o.logprob):.2%}" for o in others]
        assert line.split()[:2] == [str(step), str(3 + step)]
        assert f"  {chosen!r}  " in line
        assert f" {math.exp(token.logprob):.2%}" in line
        assert line.endswith("  ".join(shown))


def test_the_best_text_of_a_beam_search(run: Run, folder: str, model: gpt2onnx.Model) -> None:
    given = ("--model", folder, "--num-beams", 4, "--max-new-tokens", 6)
    status, out, err = run("trace", "abc", *given)
    best = model.generate("abc", num_beams=4, max_new_tokens=6)
    _, *lines, end = out.splitlines()
    assert (status, err, end, len(lines)) == (0, "", "end: length", 6)
    for line, token, logprob in zip(lines, best.token_ids, best.logprobs, strict=True):
        chosen = model.tokenizer.decode([token], skip_special_tokens=False)
        assert f"  {chosen!r}  " in line
        assert f" {math.exp(logprob):.2%}" in line


def test_a_draft_and_a_negative_prompt(run: Run, folder: str, tmp_path: Path) -> None:
    given = ("trace", "abc", "--model", folder, "--top", 0, "--max-new-tokens", 6)
    page = tmp_path / "page.html"
    plain = run(*given)
    drafted = run(*given, "--draft", folder, "--num-assistant-tokens", 2, "--html", page)
    assert drafted[0] == 0
    tokens = [[x.split()[:3] for x in out.splitlines()] for out in (plain[1], drafted[1])]
    assert tokens[0] == tokens[1]
    shown = html.unescape(page.read_text(encoding="utf-8"))
    assert f"num_assistant_tokens=2, draft={folder!r}" in shown
    guided = [*given, "--guidance-scale", 3]
    assert run(*guided, "--negative-prompt", "bye")[1] != run(*guided)[1]


def test_no_others(run: Run, folder: str) -> None:
    _, out, _ = run("trace", "abc", "--model", folder, "--top", 0, "--max-new-tokens", 1)
    assert out.splitlines()[1].endswith("%")
    assert out.count("%") == 1


def test_an_end_token_has_its_name(run: Run, folder: str) -> None:
    forced = ("--max-new-tokens", 1, "--forced-eos-token-id", 256)
    _, out, _ = run("trace", "", "--model", folder, *forced)
    _, line, end = out.splitlines()
    assert line.split()[:3] == ["1", "2", "'<|endoftext|>'"]
    assert end == "end: eos"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--top", -1), "--top -1: "),
        (("--top", "x"), "argument --top: invalid int value: 'x'; see gpt2onnx trace --help"),
        (("--top-k", 3), "--top-k 3 has no effect without --do-sample"),
        (
            ("--do-sample", "--num-return-sequences", 2),
            "--num-return-sequences 2: trace follows one",
        ),
    ],
)
def test_mistakes(run: Run, folder: str, given: tuple[object, ...], message: str) -> None:
    status, out, err = run("trace", "abc", "--model", folder, *given)
    assert (status, out) == (2, "")
    assert err.startswith(f"gpt2onnx: error: {message}")
    assert err.count("\n") == 1
