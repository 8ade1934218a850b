from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.smaller.bpe_checkpoint import TEXT, make_bpe_checkpoint


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bpe_checkpoint(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_text(TEXT[:2000], encoding="utf-8")
    return path


def test_a_trimmed_checkpoint_is_exported_and_writes(
    run: Run, source: Path, text: Path, tmp_path: Path
) -> None:
    out, model = tmp_path / "out", tmp_path / "model"
    status, shown, err = run("trim", source, out, "--text", text, text, "--size", 500)
    assert (status, err) == (0, "")
    assert shown.startswith(f"{out}: 500 of 720 tokens, ")
    assert shown.endswith(" of 0.2 MB\n")
    assert run("export", out, model, "--no-verify")[0] == 0
    assert run("generate", "def main", "--model", model, "--max-new-tokens", 3)[0] == 0


def test_without_a_size_what_the_text_uses_stays(
    run: Run, source: Path, text: Path, tmp_path: Path
) -> None:
    assert " 100.00% of the " in run("trim", source, tmp_path / "a", "--text", text)[1]
    status, shown, _ = run("trim", source, tmp_path / "b", "--text", text, "--min-count", 9)
    assert status == 0
    assert " 100.00% of the " not in shown


def test_a_text_of_another_kind_is_told(run: Run, source: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("日本語の文章です。", encoding="utf-8")
    status, _, err = run("trim", source, tmp_path / "out", "--text", tmp_path / "text")
    assert status == 0
    assert err.startswith("gpt2onnx: warning: the text takes ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "10"], "--size 10: expected at least 2"),
        (["--size", "9999"], "--size 9999: expected at most 702"),
        (["--min-count", "0"], "--min-count 0: expected an integer of at least 1"),
        (["--size", "300", "--min-count", "1"], "--size 300 and --min-count 1 each say"),
    ],
)
def test_what_cannot_be_is_one_line(
    run: Run, source: Path, text: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    status, shown, err = run("trim", source, tmp_path / "out", "--text", text, *options)
    assert (status, shown) == (2, "")
    assert err.startswith(f"gpt2onnx: error: {said}")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "the text holds no token"), (b"caf\xe9", "expected UTF-8"), (None, "No such file")],
)
def test_texts_that_are_none(
    run: Run, source: Path, tmp_path: Path, content: bytes | None, said: str
) -> None:
    text = tmp_path / "text"
    if content is not None:
        text.write_bytes(content)
    status, _, err = run("trim", source, tmp_path / "out", "--text", text)
    assert status == 2
    assert said in err
    assert not (tmp_path / "out").exists()


def test_the_options_are_the_librarys(
    run: Run, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def trim(source: str, out: str, texts: list[str], **options: Any) -> Any:
        given.update(options, source=source, out=out, texts=texts)
        return SimpleNamespace(note="")

    monkeypatch.setattr("gpt2onnx.smaller.trim.trim.trim", trim)
    assert run("trim", "a", "b", "--text", text, "--min-count", 3, "--revision", "v1")[0] == 0
    assert (given["source"], str(given["out"]), given["texts"]) == ("a", "b", [TEXT[:2000]])
    assert (given["size"], given["min_count"], given["revision"]) == (None, 3, "v1")


def test_a_text_has_to_be_named(run: Run) -> None:
    assert run("trim", "a", "b")[0] == 2
