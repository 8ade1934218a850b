"""Jobs on a cluster of two nodes in this machine, one of which is lost; and what Ray refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt2onnx import run_batch
from gpt2onnx.batch import shards
from gpt2onnx.batch.supervisor import BatchProgress
from gpt2onnx.errors import BatchError, ParameterError
from tests.batch.conftest import answers

pytest.importorskip("ray", reason="needs [ray]")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Ray's own
]
DRAWN: dict[str, Any] = {"do_sample": True, "max_new_tokens": 20, "threads": 1}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without processors, and two nodes of one each."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.lost = made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_node_is_lost(
    cluster: Any, prompts: Callable[[int], Path], folder: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """In the middle, without grace: another worker does what it had, and the bits are the same."""
    monkeypatch.setattr(shards, "SMALLEST", 1000)
    given, nodes = prompts(4000), [cluster.lost]

    def progress(at: BatchProgress) -> None:
        if at.done > 500 and nodes:
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    on_ray = tmp_path / "ray.jsonl"
    report = run_batch(
        *(given, on_ray), model=folder, ray=cluster.address, progress=progress, **DRAWN
    )
    assert (report.lines, report.failed, nodes) == (4000, 0, [])
    for workers in (1, 2):
        run_batch(given, tmp_path / f"{workers}.jsonl", model=folder, workers=workers, **DRAWN)
        assert answers(tmp_path / f"{workers}.jsonl") == answers(on_ray)


def test_a_job_that_cant_run(cluster: Any, prompts: Any, folder: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="top_k=-1"):
        run_batch(prompts(3), tmp_path / "out", model=folder, ray=cluster.address, top_k=-1)


def test_another_version(
    cluster: Any, prompts: Any, folder: str, tmp_path: Path, monkeypatch: Any
) -> None:
    from gpt2onnx.batch import ray_pool

    monkeypatch.setattr(ray_pool, "versions", lambda: ("3.99", "9.9"))
    told = "has Python 3.* with gpt2onnx 0.*, this machine Python 3.99 with gpt2onnx 9.9: expected"
    with pytest.raises(BatchError, match=told):
        run_batch(prompts(3), tmp_path / "out", model=folder, ray=cluster.address)


def test_a_model_from_the_object_store(
    cluster: Any, prompts: Any, folder: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """As where a node doesn't have its folder: each makes one of its own."""
    from gpt2onnx.batch import ray_pool

    packed: list[Path] = []
    pack = ray_pool.pack

    def spy(folder: Path) -> dict[str, bytes]:
        packed.append(folder)
        return pack(folder)

    class Elsewhere(ray_pool.RayWorker):
        async def about(self) -> Any:
            return (await super().about())._replace(has_model=False)

    monkeypatch.setattr(ray_pool, "RayWorker", Elsewhere)
    monkeypatch.setattr(ray_pool, "pack", spy)
    given = prompts(30)
    run_batch(given, tmp_path / "out", model=folder, ray=cluster.address, **DRAWN)
    assert packed == [Path(folder)]  # once
    run_batch(given, tmp_path / "here", model=folder, workers=1, **DRAWN)
    assert answers(tmp_path / "out") == answers(tmp_path / "here")


def test_nothing_answers(prompts: Any, folder: str, tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"Ray at 127\.0\.0\.1:1: nothing answers there"):
        run_batch(prompts(3), tmp_path / "out", model=folder, ray="127.0.0.1:1")
    with pytest.raises(BatchError, match="Ray at auto: "):
        run_batch(prompts(3), tmp_path / "out", model=folder, ray="auto", force=True)
