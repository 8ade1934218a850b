"""A model as a step of a Ray Data pipeline, in a process of its own; prints texts by prompt.

python tests/batch/on_ray_data.py FOLDER
"""

from __future__ import annotations

import json
import sys

import ray

import gpt2onnx.batch


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False)
    ds = ray.data.from_items([{"prompt": f"{number} says"} for number in range(6)])
    ds = ds.map_batches(
        gpt2onnx.batch.RayPredictor,
        fn_constructor_kwargs={"model": sys.argv[1], "max_new_tokens": 4},
        batch_size=2,
        concurrency=1,
    )
    found = {row["prompt"]: row["text"] for row in ds.take_all()}
    ray.shutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
