"""A Ray Data pipeline with checkpoints, as docs/batch.md has it; for a process that may be killed.

    python tests/batch/on_ray_data.py PROMPTS FOLDER OUT CHECKPOINTS

PROMPTS is a Parquet file with the columns custom_id, prompt and seed.
"""

from __future__ import annotations

import sys
from typing import Any

import ray
from ray.data.checkpoint import CheckpointConfig

import gpt2onnx.batch

BATCH = 16
PARAMETERS: dict[str, Any] = {"do_sample": True, "max_new_tokens": 24}


def main() -> None:
    prompts, folder, out, checkpoints = sys.argv[1:]
    ray.init(num_cpus=3, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # bytes: each row is a block, with a file and a checkpoint
    context.checkpoint_config = CheckpointConfig(
        id_column="custom_id",
        checkpoint_path=checkpoints,
        delete_checkpoint_on_success=False,
    )
    ds = ray.data.read_parquet(prompts)
    ds = ds.map_batches(
        gpt2onnx.batch.RayPredictor,
        fn_constructor_kwargs={"model": folder, **PARAMETERS},
        batch_size=BATCH,
        concurrency=1,
    )
    ds.write_parquet(out)


if __name__ == "__main__":
    main()
