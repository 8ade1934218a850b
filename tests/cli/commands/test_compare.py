"""compare, from checkpoint and folders to table, record and page."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx.cli.commands import compare
from gpt2onnx.compare.measure.job import Job
from gpt2onnx.compare.measure.jobs import answer
from gpt2onnx.errors import ProviderError
from gpt2onnx.runtime.ort.provider import require_provider
from tests.chromium import CHROMIUM
from tests.cli.conftest import Run, Start
from tests.page.test_render import Reader, dumped

SMALL = ("--batch", "1,2", "--context", "8,16", "--new-tokens", "6", "--threads", "1")
PLOTS = ["Latency against context", "Throughput against batch", "Agreement by position", "Cost"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("hello there\n\ndef f():\\n    \n")
    return file


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements in this process: what a fresh one does has tests of its own."""
    monkeypatch.setattr(compare, "Comparison", partial(compare.Comparison, do=answer))


def cuda_runs() -> bool:
    try:
        require_provider("cuda")
    except ProviderError:
        return False
    return True


def read(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "compare.json").read_text(encoding="utf-8"))
    return record


@pytest.mark.skipif(cuda_runs(), reason="cuda runs here")
def test_a_checkpoint_where_there_is_no_gpu(
    run: Run, checkpoint: Path, prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    prices = ("--cpu-price", 0.1, "--gpu-price", 1)
    call = ("compare", checkpoint, *SMALL, "--prompts", prompts, *prices, "--out", out)
    status, shown, err = run(*call)
    assert (status, err) == (0, "")
    record = read(out)
    assert (record["schema_version"], record["complete"]) == (1, True)
    assert record["prompts"] == ["hello there", "def f():\n    "]
    assert record["reference"] == {"provider": "cpu", "precision": "fp32"}
    runs = record["runs"]
    assert [(r["provider"], r["precision"], r["batch"], r["context"]) for r in runs] == [
        (provider, precision, batch, context)
        for provider in ("cpu", "cuda")
        for precision in ("fp32", "int8")
        for batch in (1, 2)
        for context in (8, 16)
    ]
    assert [r["status"] for r in runs] == ["ok"] * 8 + ["unavailable"] * 8
    assert all(r["reason"].startswith("cuda can't run here") for r in runs[8:])
    assert "cuda int8" in shown
    assert "cuda can't run here" in shown
    assert "more than 10 times the CPU's tokens a second" in shown
    html = (out / "compare.html").read_text(encoding="utf-8")
    assert [title for title in re.findall(r"<h2>([^<]*)</h2>", html) if title in PLOTS] == PLOTS
    text = (out / "compare.md").read_text(encoding="utf-8")
    assert "| cpu int8 | 2 | 16 |" in text
    assert not list(out.glob(".*"))


def test_folders(
    run: Run, here: None, models: Callable[[str], Path], prompts: Path, tmp_path: Path
) -> None:
    folders = [models("fp32"), models("int4")]
    given = ("--providers", "cpu", "--prompts", prompts, "--out", tmp_path / "out")
    status, shown, _ = run("compare", *folders, *SMALL, *given)
    assert status == 0
    record = read(tmp_path / "out")
    assert [each["precision"] for each in record["answers"]] == ["fp32", "int4"]
    assert record["answers"][1]["agreement"]["kl_mean"] > 0
    assert "Not there" not in shown
    again = run("compare", *folders, *SMALL, *given)
    assert again[0] == 2
    assert "compare.json exists: give --resume to go on with it, or another --out" in again[2]


@pytest.fixture
def compared(
    run: Run, here: None, models: Callable[[str], Path], prompts: Path, tmp_path: Path
) -> Run:
    """Compares a folder in fp32 on the CPU, into tmp_path/out, with the options that are given."""
    given = ("--providers", "cpu", "--prompts", prompts, "--out", tmp_path / "out")
    return partial(run, "compare", models("fp32"), *SMALL, *given)


@pytest.mark.usefixtures("todays_graph")
def test_another_graph_when_it_goes_on(compared: Run, tmp_path: Path) -> None:
    assert compared("--graph", "onnx")[0] == 0
    before = read(tmp_path / "out")
    assert "graph" not in before["grid"]
    assert compared("--resume")[0] == 0  # both graphs, but the kernels are off
    assert read(tmp_path / "out") == before
    status, shown, err = compared("--graph", "kernels", "--resume")
    assert status == 1
    told = "gpt2onnx: cpu fp32 was measured before and isn't asked for now: it is left out\n"
    assert err == told
    record = read(tmp_path / "out")
    assert record["grid"]["graph"] == "kernels"
    assert {each["graph"] for each in record["runs"]} == {"kernels"}
    assert "gpt2onnx-kernels is switched off" in shown


def test_other_runtimes(
    run: Run, here: None, checkpoint: Path, prompts: Path, tmp_path: Path
) -> None:
    """In processes of their own; one that isn't installed says what installs it."""
    out = tmp_path / "out"
    given = ("--precisions", "fp32", "--prompts", prompts, "--out", out)
    there = ("--runtimes", "onnxruntime,tract", "--environments", tmp_path)
    status, shown, err = run("compare", checkpoint, *SMALL, *there, *given)
    assert (status, err) == (0, "")
    record = read(out)
    assert record["grid"]["providers"] == ["cpu"]
    assert record["grid"]["runtimes"] == {"onnxruntime": "cpu", "tract": "cpu"}
    same = record["answers"][1]
    assert (same["runtime"], same["program"]["graph"]) == ("onnxruntime", "fused")
    assert same["agreement"]["verdict"] == "same"
    assert [(r.get("runtime"), r["batch"], r["context"], r["status"]) for r in record["runs"]] == [
        (name, batch, context, status)
        for name, status in ((None, "ok"), ("onnxruntime", "ok"), ("tract", "unavailable"))
        for batch in (1, 2)
        for context in (8, 16)
    ]
    own = tmp_path / "tract"
    told = f"tract isn't installed: python -m venv {own} && {own}/bin/pip install tract numpy"
    assert record["runs"][-1]["reason"] == told
    assert told in shown
    assert "Side by side" in shown
    assert run("compare", checkpoint, *SMALL, *there, *given, "--resume")[0] == 0
    assert read(out)["runs"] == record["runs"]


def test_an_interrupt_keeps_what_is_done_and_resuming_goes_on(
    run: Run,
    models: Callable[[str], Path],
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Job] = []
    left = [3]

    def interrupted(job: Job) -> Any:
        if job.kind == "speed":
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        asked.append(job)
        return answer(job)

    monkeypatch.setattr(compare, "Comparison", partial(compare.Comparison, do=interrupted))
    out = tmp_path / "out"
    given = ("compare", models("fp32"), "--providers", "cpu", "--prompts", prompts, "--out", out)
    status, _, err = run(*given, *SMALL)
    assert status == 130
    assert err == f"gpt2onnx: what is done is kept: --resume goes on with {out}\n"
    before = read(out)
    assert (len(before["runs"]), before["complete"]) == (3, False)
    assert (out / "compare.html").read_text().endswith("</html>\n")
    asked.clear()
    left[0] = 9
    assert run(*given, *SMALL, "--resume")[0] == 0
    assert [job.kind for job in asked] == ["speed"]
    after = read(out)
    assert after["complete"]
    assert after["runs"][:3] == before["runs"]
    status, _, err = run(*given, *SMALL[2:], "--resume")
    assert status == 2
    assert "the record to go on with is another's: its grid is" in err


@pytest.fixture
def comparing(
    models: Callable[[str], Path], prompts: Path, tmp_path: Path, start: Start
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has measured a run into tmp_path/out and has more before it."""
    out = tmp_path / "out"
    many = ("--batch", ",".join(map(str, range(1, 30))), "--context", "8", "--new-tokens", "6")
    call = ["compare", str(models("fp32")), "--providers", "cpu", *many, "--threads", "1"]
    (tmp_path / "tmp").mkdir()
    call += ["--prompts", str(prompts), "--out", str(out)]
    with start(*call, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}) as process:
        deadline = time.monotonic() + 60
        written = out / "compare.json"
        while not (written.exists() and read(out)["runs"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield process


def children(process: subprocess.Popen[bytes]) -> list[int]:
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for thread in threads for pid in thread.read_text().split()]


def vanish(pids: list[int]) -> bool:
    """Whether processes end within some seconds; one that nobody has waited for counts as ended."""
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_processes_as_well(
    number: int, comparing: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    out, measuring = tmp_path / "out", children(comparing)
    comparing.send_signal(number)
    _, err = comparing.communicate(timeout=30)
    assert comparing.returncode == 128 + number
    assert err.decode() == f"gpt2onnx: what is done is kept: --resume goes on with {out}\n"
    assert 1 <= len(read(out)["runs"]) < 29
    assert vanish(measuring)
    assert not list((tmp_path / "tmp").glob("*gpt2onnx*"))


def test_prices_of_the_record_are_kept_and_those_of_the_call_go_before(
    compared: Run, tmp_path: Path
) -> None:
    assert compared("--cpu-price", 0.1, "--gpu-price", 1)[0] == 0
    before = read(tmp_path / "out")
    assert compared("--resume")[0] == 0
    assert read(tmp_path / "out") == before
    assert compared("--resume", "--cpu-price", 0.2)[0] == 0
    after = read(tmp_path / "out")
    assert after["prices"] == {"cpu": 0.2, "gpu": 1}
    dollars = [record["runs"][0]["dollars_per_million_tokens"] for record in (before, after)]
    assert dollars[1] == pytest.approx(2 * dollars[0])


def test_a_checkpoint_with_graphs_beside_its_weights(
    run: Run,
    here: None,
    checkpoint: Path,
    models: Callable[[str], Path],
    prompts: Path,
    tmp_path: Path,
) -> None:
    """As in a clone of openai-community/gpt2."""
    clone = shutil.copytree(checkpoint, tmp_path / "gpt2")
    (clone / "onnx").mkdir()
    for name in ("decoder_model.onnx", "decoder_with_past_model.onnx"):
        shutil.copy(models("fp32") / "model.onnx", clone / "onnx" / name)
    given = ("--providers", "cpu", "--prompts", prompts, "--out", tmp_path / "out")
    assert run("compare", clone, *SMALL, *given, "--precisions", "fp32")[0] == 0
    assert [each["precision"] for each in read(tmp_path / "out")["answers"]] == ["fp32"]


def test_a_portable_folder_is_no_checkpoint(
    run: Run, here: None, checkpoint: Path, prompts: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "portable"
    gpt2onnx.export(checkpoint, folder, precision="fp32", graph="portable", verify=False)
    (folder / "manifest.json").unlink()  # as Optimum writes it
    given = ("--providers", "cpu", "--prompts", prompts, "--out", tmp_path / "out")
    assert run("compare", folder, *SMALL, *given)[0] == 0
    assert [each["precision"] for each in read(tmp_path / "out")["answers"]] == ["portable"]


def test_the_same_folder_by_another_path(
    run: Run,
    here: None,
    models: Callable[[str], Path],
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = models("fp32")
    monkeypatch.chdir(folder.parent)
    given = (*SMALL, "--providers", "cpu", "--prompts", prompts, "--out", tmp_path / "out")
    assert run("compare", folder.name, *given)[0] == 0
    assert run("compare", folder, *given, "--resume")[0] == 0


def test_prompts_are_split_at_newlines_alone(
    run: Run, here: None, models: Callable[[str], Path], tmp_path: Path
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffone\r\n  \t\n  two\u2028and\fhalf \n\r\nthree".encode())
    given = (*SMALL, "--providers", "cpu", "--prompts", file, "--out", tmp_path / "out")
    assert run("compare", models("fp32"), *given)[0] == 0
    assert read(tmp_path / "out")["prompts"] == ["one", "  two\u2028and\fhalf ", "three"]


@pytest.mark.skipif(not CHROMIUM, reason="no chromium on the PATH")
def test_a_browser_finds_the_plots(
    run: Run, here: None, models: Callable[[str], Path], prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ("--providers", "cpu", "--prompts", prompts, "--cpu-price", 1, "--out", out)
    assert run("compare", models("fp32"), models("int8"), *SMALL, *given)[0] == 0
    html = dumped(out / "compare.html", tmp_path / "user")
    shown = re.findall(r'<svg class="plot chart"[^>]* aria-label="([^":]*):', html)
    assert shown == PLOTS
    assert len(re.findall(r'<g class="look\d"><polyline points="[\d., ]+"', html)) == 7
    page = (out / "compare.html").read_text(encoding="utf-8")
    assert Reader(page).open == []
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--providers", "gpu"), "unknown provider 'gpu': this ONNX Runtime has "),
        (("--providers", "auto"), "--providers auto: expected names"),
        (("--precisions", "int8"), "--precisions int8 has no effect on model folders"),
        (("--batch", "x"), "argument --batch: expected numbers with commas, got 'x'"),
        (("--batch", ""), "argument --batch: expected at least one, got ''"),
        (("--precisions", ","), "argument --precisions: expected at least one, got ','"),
        (("--context", "60"), "--context 60 and --new-tokens 64 are more than the model's 64"),
        (("--tf32", "--providers", "cpu"), "--tf32 has no effect on cpu"),
        (("--cuda-graph", "--providers", "cpu"), "--cuda-graph has no effect on cpu: it is CUDA's"),
        (("--runtimes", "node,opnvino"), "--runtimes node,opnvino: unknown runtime 'opnvino': did"),
        (
            ("--runtimes", "x"),
            "--runtimes x: unknown runtime 'x': expected one of onnxrun",
        ),
        (
            ("--runtimes", "transformers.js"),
            "--runtimes transformers.js: it shows no logits to c",
        ),
        (("--runtimes", "web,web"), "--runtimes web,web: expected each of them once"),
        (("--runtimes", ","), "argument --runtimes: expected at least one, got ','"),
        (
            ("--environments", "x"),
            "--environments x has no effect without --runtimes: ",
        ),
        (("--environments", "x", "--runtimes", "web"), "--environments x: no such folder"),
        (("--gpu-price", "0"), "--gpu-price 0.0: expected dollars an hour, 0.000001 to 1,000,000"),
        (("--cpu-price", "1e308"), "--cpu-price 1e+308: expected dollars an hour"),
        (("--resume",), "there is no compare/compare.json to go on with: leave --resume out"),
        (("--prompts", "none"), "none: No such file or directory"),
        (("--new-tokens", "1"), "--new-tokens 1: expected at least 2"),
        (("--batch", "1,1000000000"), "--batch 1000000000: expected at most 10,000"),
        (("--batch", str(10**30)), f"--batch {10**30}: expected at most 10,000"),
        (("--threads", "1000000"), "--threads 1000000: expected 1 to 1,024"),
        (("--context", str(10**30)), f"--context {10**30} and --new-tokens 64 are more than the"),
        (("--new-tokens", str(10**400)), "--context 512 and --new-tokens an integer of 1329 bits"),
        (("--batch", "9" * 5000), "argument --batch: expected numbers with commas, got '999"),
        (("--prompts", "/dev/zero"), "/dev/zero: expected a file, found a device"),
    ],
)
def test_mistakes(
    given: tuple[str, ...],
    message: str,
    run: Run,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run("compare", folder, *given)
    assert (status, out) == (2, "")
    assert err.startswith(f"gpt2onnx: error: {message}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--out", "list.json"), "--out list.json: expected a folder, this is a file"),
        (("--resume", "--out", "list"), "--resume can't go on with list/compare.json: expected a "),
        (("--resume", "--out", "deep"), "--resume can't go on with deep/compare.json: expected J"),
        (("--resume", "--out", "cut"), "--resume can't go on with cut/compare.json: expected JSO"),
        (("--resume", "--out", "pipe"), "--resume can't go on with pipe/compare.json: expected a "),
        (("--out", "/dev/null"), "--out /dev/null: expected a folder, this is a file"),
        (("--out", "list.json/x"), "--out list.json/x: expected a folder, "),
        (("--out", "x" * 300), f"{'x' * 300}: File name too long; give another --out DIR"),
    ],
)
def test_what_is_at_out_already(
    given: tuple[str, ...],
    message: str,
    run: Run,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").touch()
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "compare.json")
    for name, content in {"list": "[]", "deep": "[" * 100_000, "cut": '{"answers": '}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "compare.json").write_text(content)
    status, out, err = run("compare", folder, "--context", 8, "--new-tokens", 8, *given)
    assert (status, out) == (2, "")
    assert err.startswith(f"gpt2onnx: error: {message}")
    if "--resume" in given:
        assert err.endswith("; remove the file, or give another --out DIR\n")


def test_a_prompt_without_room_is_told_before_anything_is_measured(
    run: Run, models: Callable[[str], Path], tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"short\n{'x' * 59}\n")  # a token a byte, and 64 positions
    given = (*SMALL, "--prompts", prompts, "--out", tmp_path / "out")
    status, out, err = run("compare", models("fp32"), *given)
    assert (status, out, (tmp_path / "out").exists()) == (2, "", False)
    assert "error: prompt 2 has 59 tokens: expected at most 58, the model's" in err
    assert "--new-tokens 6; shorten it" in err


def test_an_unknown_precision_of_a_checkpoint(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    given = ("--precisions", "int9", "--out", tmp_path / "out")
    status, _, err = run("compare", checkpoint, *given)
    assert (status, (tmp_path / "out").exists()) == (2, False)
    assert "--precisions int9: expected some of fp32, fp16, int8" in err


def test_a_folder_that_may_not_be_written_is_told_before_anything_is_measured(
    run: Run, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    out = tmp_path / "a" / "b"
    status, _, err = run("compare", folder, "--context", 8, "--new-tokens", 8, "--out", out)
    told = f"gpt2onnx: error: --out {out}: the folder {tmp_path} can't be written to\n"
    assert (status, err, list(tmp_path.iterdir())) == (1, told, [])
