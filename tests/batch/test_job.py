"""Whole jobs: what lines get beside generate and the server, and jobs that go on."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

import gpt2onnx
from gpt2onnx import Model, run_batch
from gpt2onnx.batch import shards
from gpt2onnx.batch.supervisor import BatchProgress
from gpt2onnx.errors import (
    Gpt2OnnxError,
    OutputExistsError,
    ParameterError,
    PromptError,
)
from tests.batch.conftest import answers
from tests.raising import raises

Prompts = Callable[[int], Path]
ONE: dict[str, Any] = {"workers": 1, "threads": 1, "max_new_tokens": 5}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SMALLEST", 200)


def text(line: Any) -> str:
    found: str = line["response"]["body"]["choices"][0]["text"]
    return found


def test_a_prompt_gets_what_generate_gives(
    prompts: Prompts, folder: str, model: Model, tmp_path: Path
) -> None:
    given = prompts(60)
    report = run_batch(given, tmp_path / "out.jsonl", model=folder, **ONE)
    written = model.generate(given.read_text().splitlines(), max_new_tokens=5)
    found = answers(tmp_path / "out.jsonl")
    assert [text(found[f"line-{n}"]) for n in range(1, 61)] == [each.text for each in written]
    assert (report.lines, report.failed, report.kept, report.errors) == (60, 0, 0, None)
    assert report.tokens_written == sum(len(each.token_ids) for each in written)
    assert report.tokens_read == sum(len(each.prompt_token_ids) for each in written)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "prompts.txt"]


def test_lines_of_all_kinds(folder: str, model: Model, tmp_path: Path) -> None:
    """In one file; those that fail are in the other, with their numbers."""
    lines = [
        {"custom_id": "c", "url": "/v1/completions", "body": {"prompt": "ab", "temperature": 0}},
        {"custom_id": "s", "url": "/v1/score", "body": {"text": "abc"}},
        {"custom_id": "own", "prompt": "ab", "max_new_tokens": 2},
        {"prompt": [97, 98], "num_return_sequences": 2, "do_sample": True, "seed": 3},
        {"custom_id": "bad", "url": "/v1/completions", "body": {"prompt": "ab", "top_k": -1}},
        {"custom_id": "none", "url": "/v1/nothing", "body": {}},
        {"custom_id": "room", "prompt": "ab", "room": 1},
        {"custom_id": "long", "prompt": "a" * 200},
        {"prompt": 7},
    ]
    given = tmp_path / "in.jsonl"
    given.write_text("\n".join(map(json.dumps, lines)) + "\n\n{torn")
    report = run_batch(given, tmp_path / "out.jsonl", model=folder, name="m", **ONE)
    assert (report.lines, report.failed) == (11, 6)
    found, failed = answers(tmp_path / "out.jsonl"), answers(tmp_path / "out.errors.jsonl")
    assert report.errors == tmp_path / "out.errors.jsonl"
    assert {each["error"] for each in found.values()} == {None}
    greedy = model.generate("ab", max_new_tokens=5)
    completion = found["c"]["response"]["body"]
    assert (completion["object"], completion["model"]) == ("text_completion", "m")
    assert text(found["c"]) == greedy.text
    scored = found["s"]["response"]["body"]["tokens"]
    assert [each["logprob"] for each in scored] == model.score("abc").logprobs
    assert text(found["own"]) == model.generate("ab", max_new_tokens=2).text
    drawn = model.generate(
        [97, 98], max_new_tokens=5, num_return_sequences=2, do_sample=True, seed=3
    )
    body = found["line-4"]["response"]["body"]
    assert [each["text"] for each in body["choices"]] == [each.text for each in drawn]
    errors = {
        name: (each["error"]["line"], each["response"]["status_code"])
        for name, each in failed.items()
    }
    assert errors == {
        "bad": (5, 400),
        "none": (6, 404),
        "room": (7, 400),
        "long": (8, 400),
        "line-9": (9, 400),
        None: (11, 400),
    }
    assert "expected JSON" in failed[None]["error"]["message"]


def _where(failed: Any) -> tuple[int, int]:
    return failed["error"]["line"], failed["response"]["status_code"]


def test_draws_are_the_same_in_any_workers(prompts: Prompts, folder: str, tmp_path: Path) -> None:
    """Whatever the workers, the rows and the shards are: bit for bit."""
    given, drawn = prompts(40), {"do_sample": True, "max_new_tokens": 8, "model": folder}
    run_batch(given, tmp_path / "one", workers=1, threads=1, ordered=True, **drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SMALLEST", 90)
        run_batch(given, tmp_path / "two", workers=2, threads=1, max_rows=3, **drawn)
    one = answers(tmp_path / "one")
    assert answers(tmp_path / "two") == one
    assert list(one) == [f"line-{n}" for n in range(1, 41)]
    run_batch(given, tmp_path / "other", workers=1, threads=1, seed=1, **drawn)
    other = answers(tmp_path / "other")
    assert sum(other[name] == one[name] for name in one) < 5


def test_a_line_draws_by_its_name(folder: str, tmp_path: Path) -> None:
    """OpenAI's lines draw unless they say otherwise, wherever they stand."""
    body = {"prompt": "ab", "max_tokens": 8}
    lines = [{"custom_id": n, "url": "/v1/completions", "body": body} for n in ("a", "b", "c")]
    for name, order in (("one", lines), ("two", lines[::-1])):
        given = tmp_path / f"{name}.jsonl"
        given.write_text("\n".join(map(json.dumps, order)))
        run_batch(given, tmp_path / name, model=folder, workers=1)
    one = answers(tmp_path / "one")
    assert answers(tmp_path / "two") == one
    assert len({text(each) for each in one.values()}) == 3
    still = {**body, "num_beams": 2}
    given.write_text(json.dumps({"custom_id": "a", "url": "/v1/completions", "body": still}))
    assert run_batch(given, tmp_path / "beams", model=folder, workers=1).failed == 0


def test_compressed_files_and_patterns(prompts: Prompts, folder: str, tmp_path: Path) -> None:
    content = prompts(30).read_bytes().splitlines(keepends=True)
    first, second, third = (b"".join(content[n : n + 10]) for n in (0, 10, 20))
    (tmp_path / "part-1.gz").write_bytes(gzip.compress(first))
    frames = [zstandard.compress(second[:50]), zstandard.compress(second[50:])]
    (tmp_path / "part-2.zst").write_bytes(b"".join(frames))
    (tmp_path / "part-3").write_bytes(third)
    run_batch(tmp_path / "prompts.txt", tmp_path / "plain", model=folder, ordered=True, **ONE)
    run_batch(str(tmp_path / "part-*"), tmp_path / "parts", model=folder, ordered=True, **ONE)
    assert list(answers(tmp_path / "parts")) == list(answers(tmp_path / "plain"))
    texts = [text(each) for each in answers(tmp_path / "parts").values()]
    assert texts == [text(each) for each in answers(tmp_path / "plain").values()]


def test_nothing_to_do(folder: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    report = run_batch(tmp_path / "empty", tmp_path / "out", model=folder)
    assert (report.lines, (tmp_path / "out").read_bytes()) == (0, b"")


class StoppedError(Exception):
    """Stops a job from its progress."""


def stopped(given: Path, output: Path, after: int, **options: Any) -> None:
    """Run a job until at least so many lines are done."""

    def progress(at: BatchProgress) -> None:
        if at.done >= after:
            raise StoppedError

    with pytest.raises(StoppedError):
        run_batch(given, output, progress=progress, **options)


def test_it_goes_on(prompts: Prompts, folder: str, tmp_path: Path) -> None:
    given, output = prompts(300), tmp_path / "out.jsonl"
    options = {**ONE, "model": folder, "do_sample": True}
    stopped(given, output, 20, **options)
    assert not output.exists()
    report = run_batch(given, output, resume=True, **options)
    assert report.kept >= 20
    run_batch(given, tmp_path / "whole", **options)
    assert answers(output) == answers(tmp_path / "whole")


@pytest.fixture
def begun(prompts: Prompts, folder: str, tmp_path: Path) -> Path:
    """A job that was stopped; its output."""
    stopped(prompts(300), tmp_path / "out.jsonl", 1, model=folder, **ONE)
    return tmp_path / "out.jsonl"


def test_another_job_is_refused(
    begun: Path, folder: str, tmp_path: Path, models: Callable[[str], Path], monkeypatch: Any
) -> None:
    given = tmp_path / "prompts.txt"

    def refused(told: str, **more: Any) -> None:
        with pytest.raises(OutputExistsError, match=told):
            run_batch(given, begun, **{"model": folder, "resume": True, **ONE, **more})

    refused("an unfinished job is there; resume=True goes on with it, force=True", resume=False)
    refused("has other parameters: .*5.*, not .*6", max_new_tokens=6)
    refused("has another model", model=str(models("int8")))
    refused("begun with ordered=False", ordered=True)
    refused("took its lines as 'text', not as 'json'", lines="json")
    refused("called its model .*, not 'other'", name="other")
    monkeypatch.setattr(gpt2onnx, "__version__", "9.9")
    refused("was begun by gpt2onnx '0.1.0', this is '9.9'")
    monkeypatch.undo()
    given.write_text("something else\n")
    refused("has another input")
    report = run_batch(given, begun, model=folder, force=True, **ONE)
    assert report.lines == 1


def test_an_output_that_exists(prompts: Prompts, folder: str, tmp_path: Path) -> None:
    given, output = prompts(3), tmp_path / "out.jsonl"
    output.write_text("mine")
    for resume in (False, True):
        with pytest.raises(OutputExistsError, match="exists, and no unfinished job is beside it"):
            run_batch(given, output, model=folder, resume=resume)
    assert output.read_text() == "mine"
    assert not (tmp_path / "out.jsonl.job").exists()
    run_batch(given, output, model=folder, force=True, **ONE)
    assert len(answers(output)) == 3


def test_an_output_that_comes_meanwhile(begun: Path, folder: str, tmp_path: Path) -> None:
    begun.write_text("mine")
    with pytest.raises(OutputExistsError, match="exists since the job was begun; move it away"):
        run_batch(tmp_path / "prompts.txt", begun, model=folder, resume=True, **ONE)
    assert begun.read_text() == "mine"


def test_two_at_once(begun: Path, folder: str, tmp_path: Path, monkeypatch: Any) -> None:
    from gpt2onnx.batch import job_folder

    monkeypatch.setattr(job_folder, "PATIENCE", 0.1)
    places = job_folder.Places.of(begun, None)
    with (
        job_folder.JobFolder(places, resume=True, force=False),
        pytest.raises(OutputExistsError, match="another process is at work on this job"),
    ):
        run_batch(tmp_path / "prompts.txt", begun, model=folder, resume=True, **ONE)


def test_an_input_that_changes(begun: Path, folder: str, tmp_path: Path) -> None:
    given = tmp_path / "prompts.txt"

    def change(at: BatchProgress) -> None:
        given.write_text("another\n" * 300)

    with pytest.raises(PromptError, match="it was changed while the job ran; force=True begins"):
        run_batch(given, begun, model=folder, resume=True, progress=change, **ONE)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"inputs": "none.txt"}, PromptError, "none.txt: No such file or directory"),
        ({"inputs": "none-*.txt"}, PromptError, r"none-\*.txt: no file has such a name"),
        ({"inputs": []}, PromptError, "no input: expected files"),
        ({"inputs": ["-", "-"]}, PromptError, "no input: expected .*, or - once"),
        ({"inputs": "."}, PromptError, "expected a file, found a folder"),
        ({"output": "."}, ParameterError, "expected a file, or a name that is free, for output"),
        ({"output": "none/out"}, ParameterError, "there is no folder .*none; create it first"),
        ({"errors": "out"}, ParameterError, "expected another file"),
        ({"lines": "xml"}, ParameterError, "lines='xml': expected auto, json or text"),
        ({"resume": True, "force": True}, ParameterError, "leave one out"),
        ({"stop_fn": print}, ParameterError, "a parameter of generate that can be written down"),
    ],
)
def test_wrong_calls(
    given: dict[str, Any],
    error: type[Gpt2OnnxError],
    told: str,
    prompts: Prompts,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    call: dict[str, Any] = {"inputs": prompts(3), "output": "out", "model": folder, **given}
    with pytest.raises(error, match=told):
        run_batch(**call)


@pytest.mark.parametrize("given", [{"workers": 0}, {"nothing": 1}, {"top_k": -1}, {"max_rows": 0}])
def test_wrong_parameters(
    given: dict[str, Any], prompts: Prompts, folder: str, tmp_path: Path
) -> None:
    with raises(ParameterError, parameters=given):
        run_batch(prompts(3), tmp_path / "out", model=folder, **given)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (gzip.compress(b"text" * 99)[:-9], "expected gzip, found it damaged"),
        (
            zstandard.compress(b"text" * 99)[:-9],
            "expected zstd, found it damaged: it ends too soon",
        ),
        (b"\x28\xb5\x2f\xfdxxxxxxxxxxx", "expected zstd, found it damaged"),
        ("text".encode("utf-16"), "expected UTF-8, found UTF-16; save it as UTF-8"),
    ],
)
def test_damaged_input(content: bytes, told: str, folder: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(PromptError, match=told):
        run_batch(tmp_path / "in", tmp_path / "out", model=folder)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
