"""Jobs on Ray: the same bits as here, also where a node is lost; and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2onnx import Model, run_batch
from gpt2onnx.batch import RayPredictor, ray_worker
from gpt2onnx.batch.lines import Line
from gpt2onnx.batch.ray_worker import RayWorker, pack, unpack
from gpt2onnx.batch.spec import WorkerSpec
from gpt2onnx.errors import BatchError, InstallationError
from tests.batch.conftest import answers

ROOT = Path(__file__).parents[2]
# Starting nodes and, where one is lost, noticing it takes Ray most of the time.
PROMPTS = 600
Prompts = Callable[[int], Path]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs [ray]")
needs_ray_data = pytest.mark.skipif(
    find_spec("ray") is None or find_spec("pyarrow") is None, reason="needs ray[data]"
)


def script(name: str, *arguments: object) -> Any:
    """What a script says that has Ray to itself: its threads and warnings are its own."""
    command = [sys.executable, str(ROOT / "tests" / "batch" / f"{name}.py"), *map(str, arguments)]
    # Ray's workers are nice otherwise, and starve where others are at work.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout.splitlines()[-1])


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_two_nodes(prompts: Prompts, folder: str, tmp_path: Path) -> None:
    given = prompts(PROMPTS)
    found = script("on_ray", given, folder, tmp_path)
    assert found["parameter"].startswith("ParameterError: top_k=-1: ")
    assert "gpt2onnx 0.1.0, this machine Python 3.99 with gpt2onnx 9.9: " in found["version"]
    assert found["version"].startswith("BatchError: the node ")
    assert found["packed"] == 1
    assert PROMPTS // 8 < found["lost"] < PROMPTS
    drawn: Any = {"do_sample": True, "max_new_tokens": 20, "threads": 1, "model": folder}
    run_batch(given, tmp_path / "one", workers=1, **drawn)
    run_batch(given, tmp_path / "two", workers=2, **drawn)
    one = answers(tmp_path / "one")
    for name in ("two", "packed", "lost"):
        assert answers(tmp_path / name) == one


@needs_ray
@pytest.mark.slow
def test_nothing_answers(prompts: Prompts, folder: str, tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"Ray at 127\.0\.0\.1:1: nothing answers there"):
        run_batch(prompts(3), tmp_path / "out", model=folder, ray="127.0.0.1:1")


@needs_ray_data
@pytest.mark.slow
def test_a_pipeline_that_is_cut_goes_on(folder: str, model: Model, tmp_path: Path) -> None:
    """Killed in its midst and run again: each row is there once, with what its seed draws."""
    import pyarrow
    from pyarrow import parquet

    rows = [{"custom_id": f"row {n}", "prompt": f"def f{n}(", "seed": n} for n in range(96)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "prompts.parquet")
    out, checkpoints = tmp_path / "out", tmp_path / "checkpoints"
    script = ROOT / "tests" / "batch" / "on_ray_data.py"
    command = [sys.executable, script, tmp_path / "prompts.parquet", folder, out, checkpoints]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"}

    def kept() -> set[Path]:
        return {each for each in checkpoints.glob("*.parquet") if "pending" not in each.name}

    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as first,
    ):
        while len(kept()) < 10 and first.poll() is None:
            time.sleep(0.02)
        first.kill()
    assert first.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()[-5000:]
    before = kept()
    assert 10 <= len(before) < len(rows)
    written = [each for path in before for each in out.glob(f"{path.stem}*")]
    times = {each: each.stat().st_mtime_ns for each in written}
    assert len(times) == len(before)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    assert {each: each.stat().st_mtime_ns for each in written} == times
    found = [row for each in out.glob("*.parquet") for row in parquet.read_table(each).to_pylist()]
    assert sorted(row["custom_id"] for row in found) == sorted(row["custom_id"] for row in rows)
    for row in found[::12]:
        alone = model.generate(row["prompt"], do_sample=True, seed=row["seed"], max_new_tokens=24)
        assert row["text"] == alone.text


def test_ray_is_missing(prompts: Prompts, folder: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InstallationError, match=r"pip install 'gpt2onnx\[ray\]'"):
        run_batch(prompts(3), tmp_path / "out", model=folder, ray="auto")


def test_a_model_is_unpacked_once(folder: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path))
    files = pack(Path(folder))
    place = unpack(files, {"graph": "a"})
    assert pack(place) == files
    assert unpack({}, {"graph": "a"}) == place
    assert unpack(files, {"graph": "b"}) != place


def test_a_predictor(folder: str, model: Model) -> None:
    predictor = RayPredictor(folder, max_new_tokens=4)
    batch = {"prompt": np.array(["ab", "cd"], dtype=object), "id": np.array([1, 2])}
    found = predictor(batch)
    written = model.generate(["ab", "cd"], max_new_tokens=4)
    assert found["text"].tolist() == [each.text for each in written]
    assert found["id"].tolist() == [1, 2]
    drawn = RayPredictor(folder, max_new_tokens=4, do_sample=True)
    seeded = drawn({"prompt": batch["prompt"], "seed": np.array([3, 4])})
    alone = model.generate("cd", max_new_tokens=4, do_sample=True, seed=4)
    assert seeded["text"][1] == alone.text


def test_a_worker_tells_every_record(folder: str, monkeypatch: Any) -> None:
    """Also those that come while it waits to be asked for more."""
    monkeypatch.setattr(ray_worker, "PAUSE", 0.001)
    lines = [Line(number, b"%03d" % number) for number in range(1, 101)]
    parameters = {"max_new_tokens": 5}
    spec = WorkerSpec(folder, parameters, "text", 0, "demo", load_options={"threads": 1})

    async def told() -> list[int]:
        worker, numbers = RayWorker(spec), list[int]()
        await worker.open(None)
        async for handful in worker.answer(lines):
            numbers += [record.number for record in handful]
            await asyncio.sleep(0.05)
        return numbers

    assert sorted(asyncio.run(told())) == list(range(1, 101))
