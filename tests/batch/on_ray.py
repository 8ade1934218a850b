"""Jobs on a cluster of two nodes in this machine, in a process of their own; says what came of it.

    python tests/batch/on_ray.py PROMPTS FOLDER OUT

The head has no processors; one of the two nodes is removed without grace in the middle of a job.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from gpt2onnx import Gpt2OnnxError, run_batch
from gpt2onnx.batch import ray_pool, shards
from gpt2onnx.batch.supervisor import BatchProgress

DRAWN: dict[str, Any] = {"do_sample": True, "max_new_tokens": 20, "threads": 1}


class Elsewhere(ray_pool.RayWorker):
    """A worker whose node has no model at the folder's path."""

    async def about(self) -> Any:
        return (await super().about())._replace(has_model=False)


@contextmanager
def replaced(name: str, value: object) -> Iterator[None]:
    before = getattr(ray_pool, name)
    setattr(ray_pool, name, value)
    yield
    setattr(ray_pool, name, before)


def refused(prompts: Path, out: Path, **options: Any) -> str:
    try:
        run_batch(prompts, out / "refused", force=True, **options)
    except Gpt2OnnxError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def packed_once(prompts: Path, out: Path, **options: Any) -> int:
    """How often the model was put into the object store for two nodes."""
    packed: list[Path] = []
    pack = ray_pool.pack

    def spy(folder: Path) -> dict[str, bytes]:
        packed.append(folder)
        return pack(folder)

    with replaced("RayWorker", Elsewhere), replaced("pack", spy):
        run_batch(prompts, out / "packed", **options, **DRAWN)
    return len(packed)


def with_a_node_lost(cluster: Cluster, node: Any, prompts: Path, out: Path, **options: Any) -> int:
    """How many lines were done when it was removed."""
    removed: list[int] = []

    def progress(at: BatchProgress) -> None:
        if at.done > at.total // 8 and not removed:
            removed.append(at.done)
            cluster.remove_node(node, allow_graceful=False)

    run_batch(prompts, out / "lost", progress=progress, **options, **DRAWN)
    return removed[0]


def started(cluster: Cluster, **resources: int) -> Any:
    """A node; Ray gives one half a minute to start, which a busy machine may not have."""
    for _ in range(5):
        try:
            return cluster.add_node(**resources)
        except Exception as error:
            print(f"a node didn't start: {error}", file=sys.stderr)
    raise SystemExit("no node starts here")


def main() -> None:
    prompts, folder, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    cluster = Cluster()
    try:
        started(cluster, num_cpus=0)
        node = started(cluster, num_cpus=1)
        started(cluster, num_cpus=1)
        cluster.wait_for_nodes(timeout=120)
        options: dict[str, Any] = {"model": folder, "ray": cluster.address}
        found: dict[str, Any] = {"parameter": refused(prompts, out, top_k=-1, **options)}
        with replaced("versions", lambda: ("3.99", "9.9")):
            found["version"] = refused(prompts, out, **options)
        found["packed"] = packed_once(prompts, out, **options)
        shards.SMALLEST = 1000
        found["lost"] = with_a_node_lost(cluster, node, prompts, out, **options)
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
