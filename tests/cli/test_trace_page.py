"""trace --html: the page of a real run says what the library says."""

from __future__ import annotations

import math
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx.cli.commands import trace
from gpt2onnx.page.text import percent, visible
from tests.cli.conftest import Run

FOUR = ("--num-beams", 4, "--max-new-tokens", 6)


def labels(page: Path) -> list[str]:
    found = re.findall(r'role="note" aria-label="([^"]*)"', page.read_text(encoding="utf-8"))
    return [unescape(label) for label in found]


def entropies(model: gpt2onnx.Model, prompt: str, new: list[int]) -> list[float]:
    """In bits, of all tokens of the vocabulary, each step's worked out alone."""
    start = model.tokenizer.encode(prompt).ids
    found = []
    for step in range(len(new)):
        token = next(
            model.stream(start + new[:step], top_logprobs=257, max_new_tokens=1, do_sample=False)
        )
        chances = np.exp([other.logprob for other in token.alternatives])
        found.append(float(-(chances * np.log2(chances)).sum()))
    return found


def test_a_page_has_the_lines_of_the_terminal(
    run: Run, folder: str, model: gpt2onnx.Model, tmp_path: Path
) -> None:
    given = ("abc", "--model", folder, "--do-sample", "--seed", 4, "--max-new-tokens", 6)
    page = tmp_path / "page.html"
    without = run("trace", *given)
    assert run("trace", *given, "--html", page) == without
    tokens = list(model.stream("abc", top_logprobs=5, do_sample=True, seed=4, max_new_tokens=6))
    shown = labels(page)
    bits = entropies(model, "abc", [token.id for token in tokens])
    for number, (label, token, each) in enumerate(zip(shown, tokens, bits, strict=True), 1):
        text = unescape(visible(model.tokenizer.decode([token.id], skip_special_tokens=False)))
        assert label.startswith(
            f"step {number}: {text} {unescape(percent(math.exp(token.logprob)))}, "
        )
        assert float(re.search(r"entropy ([\d.]+) bits", label)[1]) == pytest.approx(each, abs=0.01)
    assert "end: length" in page.read_text()
    assert "Tree of hypotheses" not in page.read_text()


def test_beams_have_their_tree(
    run: Run, folder: str, model: gpt2onnx.Model, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    status, out, err = run("trace", "abc", "--model", folder, *FOUR, "--html", page)
    assert (status, err) == (0, "")
    best = model.generate("abc", num_beams=4, max_new_tokens=6)
    html = page.read_text(encoding="utf-8")
    nodes = re.findall(r'<li class="(\w+)( best)?[^"]*" title="([^"]*)"', html)
    way = [title for _, best_, title in nodes if best_]
    for title, label, logprob in zip(way, labels(page), best.logprobs, strict=True):
        assert f" {percent(math.exp(logprob))}, " in title
        assert f" {percent(math.exp(logprob))}, entropy" in label
    assert float(way[-1].split()[-1]) == pytest.approx(sum(best.logprobs), abs=2e-3)
    levels = html.split('<ul aria-label="step ')[1:]
    fates = [re.findall(r'<li class="(\w+)', level.split("</ul>")[0]) for level in levels]
    assert [len(level) for level in fates] == [8] * 6
    assert [level.count("kept") for level in fates] == [4] * 5 + [0]
    assert fates[-1].count("finished") == 4
    bits = [float(re.search(r"entropy ([\d.]+) bits", label)[1]) for label in labels(page)]
    assert bits == pytest.approx(entropies(model, "abc", best.token_ids), abs=0.01)
    lines = out.splitlines()
    assert len(lines) == 1 + 6 + 1
    assert f" {math.exp(best.logprobs[0]):.2%}" in lines[1]
    assert lines[-1] == "end: length"


def test_groups_of_beams_begin_alike_and_keep_apart(run: Run, folder: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    groups = ("--num-beam-groups", 2, "--diversity-penalty", 0.5)
    assert run("trace", "abc", "--model", folder, *FOUR, *groups, "--html", page)[0] == 0
    html = page.read_text(encoding="utf-8")
    assert len(re.findall(r'<li class="\w+ best', html)) == 6


@pytest.mark.parametrize("beams", [(), ("--num-beams", 2)])
def test_ctrl_c_leaves_a_whole_page_of_what_there_is(
    beams: tuple[object, ...],
    run: Run,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = tmp_path / "page.html"
    real = trace.open_model

    def interrupted(args: Any) -> gpt2onnx.Model:
        model = real(args)
        read, left = model.decoder.read, [3]

        def count(*given: Any) -> Any:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return read(*given)

        monkeypatch.setattr(model.decoder, "read", count)
        return model

    monkeypatch.setattr(trace, "open_model", interrupted)
    status, *_ = run("trace", "abc", "--model", folder, *beams, "--html", page)
    assert status == 130
    assert len(labels(page)) == 3
    html = page.read_text()
    assert ">interrupted<" in html
    assert html.endswith("</html>\n")
    assert html.count('class="level"') == (3 if beams else 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--html", "none/page.html"), "--html none/page.html: there is no folder "),
        (("--html", "."), "--html .: "),
        ((*FOUR, "--html", "page", "--num-return-sequences", 2), "--num-return-sequences 2: "),
        ((*FOUR, "--draft", "none", "--html", "page"), "--draft with --num-beams 4: "),
        (("--top", -1, "--html", "page"), "--top -1: "),
    ],
)
def test_mistakes(
    given: tuple[object, ...],
    message: str,
    run: Run,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run("trace", "abc", "--model", folder, *given)
    assert (status, out) == (2, "")
    assert err.startswith(f"gpt2onnx: error: {message}")
    assert list(tmp_path.iterdir()) == []
