"""A Ray Data pipeline with a model in it, which fails in the middle and goes on; says what came.

python tests/batch/on_ray_data.py FOLDER OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data import DataContext
from ray.data.checkpoint import CheckpointConfig

from gpt2onnx.batch import RayPredictor

ROWS, FILES = 64, 8


class Failing(RayPredictor):
    """Fails at a row, until a file says that it has; counts what it is asked in another."""

    def __init__(self, out: str, **options: Any) -> None:
        super().__init__(**options)
        self._out = Path(out)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if not (self._out / "failed").exists() and max(batch["id"]) >= ROWS - 1:
            (self._out / "failed").touch()
            raise RuntimeError("a machine fails")
        with (self._out / "asked").open("a") as asked:
            asked.write("".join(f"{each}\n" for each in batch["id"]))
        return super().__call__(batch)


def pipeline(folder: str, out: Path) -> None:
    context = DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="id", checkpoint_path=str(out / "checkpoint")
    )
    options = {"out": str(out), "model": folder, "max_new_tokens": 4}
    dataset = ray.data.read_parquet(str(out / "prompts"), override_num_blocks=FILES)
    dataset.map_batches(
        Failing, fn_constructor_kwargs=options, batch_size=ROWS // FILES, concurrency=1
    ).write_parquet(str(out / "answers"))


def main() -> None:
    folder, out = sys.argv[1], Path(sys.argv[2])
    (out / "prompts").mkdir()
    each = ROWS // FILES
    for part in range(FILES):
        ids = range(part * each, (part + 1) * each)
        table = pa.table({"id": list(ids), "prompt": [f"{n:03}" for n in ids]})
        pq.write_table(table, out / "prompts" / f"{part}.parquet")
    ray.init(num_cpus=2, include_dashboard=False)
    failed = False
    try:
        pipeline(folder, out)
    except Exception:
        failed = True
    before = len((out / "asked").read_text().split())
    pipeline(folder, out)
    after = len((out / "asked").read_text().split())
    rows = sorted(pq.read_table(out / "answers").to_pylist(), key=lambda row: row["id"])
    ray.shutdown()
    found = {
        "failed": failed,
        "ids": [row["id"] for row in rows],
        "texts": [row["text"] for row in rows],
        "answered_again": after - before,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
