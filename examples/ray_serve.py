"""Models behind Ray Serve: replicas of the server on many machines, as many as the load needs.

    pip install 'gpt2onnx[cpu,export,server]' 'ray[serve]'
    python examples/ray_serve.py                                  here, two replicas of demo
    serve run examples.ray_serve:app model=gpt2-int8 replicas=8   on a cluster

OpenAI's clients ask http://127.0.0.1:8000/v1 then. docs/scaling.md says why each setting is so.
"""

from __future__ import annotations

import argparse
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

ROWS = 16
ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"


def replica(model: str, threads: int) -> Any:
    """A deployment class: each of its replicas opens the model and serves it."""

    def build() -> Any:
        import gpt2onnx
        from gpt2onnx.server.app import Rules, make_app
        from gpt2onnx.server.served import Served, ServedModels

        engine = gpt2onnx.Engine(model, threads=threads, max_rows=ROWS, prefix_cache="256M")
        return make_app(ServedModels([Served(model, engine)]), Rules())

    return serve.ingress(build)()


def app(arguments: dict[str, Any]) -> Any:
    """The application: `model`, `threads` and `replicas` may be given."""
    model, threads = arguments.get("model", "demo"), int(arguments.get("threads", 1))
    replicas = int(arguments.get("replicas", 2))
    deployment = serve.deployment(
        replica(model, threads),
        name="gpt2onnx",
        ray_actor_options={"num_cpus": threads},
        max_ongoing_requests=2 * ROWS,  # the rows, and as many that take a row as it is free
        max_queued_requests=8 * ROWS,  # a proxy's: beyond that it answers 503 at once
        autoscaling_config=AutoscalingConfig(
            min_replicas=replicas,
            max_replicas=4 * replicas,
            target_ongoing_requests=ROWS,
            downscale_delay_s=300,
        ),
        # One x-session-id comes to one replica, whose prefix cache has what it said before.
        request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        graceful_shutdown_wait_loop_s=2,
        graceful_shutdown_timeout_s=60,  # what runs may end before a replica goes
    )
    return deployment.bind()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--replicas", default=2)
    parser.add_argument("--threads", default=1)
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    serve.start(http_options={"port": args.port})
    serve.run(app(vars(args)), blocking=True)


if __name__ == "__main__":
    main()
