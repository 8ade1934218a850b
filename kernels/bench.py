"""Each kernel beside what the processor can do at most: its share of the ceiling.

    python -P kernels/bench.py [--threads N] [--rounds N]

A product is measured as COPIES nodes of distinct weights in one graph, more than any cache holds,
at M tokens. The ceiling is `gpt2onnx_kernels.operations`: the kernels' own multiply-adds on numbers
in the first cache, on one thread, measured in turn with the products; at M = 1 it is what a plain
sum over memory reads. Times are the processor's, so that what else the machine does counts little,
and each thread has a ceiling of its own. Contenders take turns; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gpt2onnx_kernels
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WIDTH, OUT, COPIES = 768, 3072, 24
ROWS = (1, 8, 32, 128, 512)
BLOCK = 32
OURS = gpt2onnx_kernels.DOMAIN
RNG = np.random.default_rng(0)
MEMORY = np.ones(1 << 26, np.int32)  # more than a cache holds


def blocks(bits: int) -> tuple[np.ndarray, np.ndarray]:
    levels = RNG.integers(0, 256, (OUT, WIDTH // BLOCK, BLOCK * bits // 8), np.uint8)
    return levels, RNG.random((OUT, WIDTH // BLOCK), np.float32)


def ours(bits: int, activation_bits: int, by_token: bool) -> Callable[[int], list[Any]]:
    def nodes(copy: int) -> list[Any]:
        levels, scales = blocks(bits)
        names = [f"w{copy}", f"s{copy}"]
        given = [
            numpy_helper.from_array(v, n) for n, v in zip(names, (levels, scales), strict=True)
        ]
        options = {"bits": bits, "block_size": BLOCK, "activation_bits": activation_bits}
        options["activation_block"] = 0 if by_token else BLOCK
        node = helper.make_node("Linear", ["x", *names], [f"y{copy}"], domain=OURS, **options)
        return [node, *given]

    return nodes


def ours_float(copy: int) -> list[Any]:
    weight = numpy_helper.from_array(RNG.random((WIDTH, OUT), np.float32), f"w{copy}")
    return [helper.make_node("Linear", ["x", f"w{copy}"], [f"y{copy}"], domain=OURS), weight]


def theirs_float(copy: int) -> list[Any]:
    weight = numpy_helper.from_array(RNG.random((WIDTH, OUT), np.float32), f"w{copy}")
    return [helper.make_node("MatMul", ["x", f"w{copy}"], [f"y{copy}"]), weight]


def theirs(bits: int) -> Callable[[int], list[Any]]:
    def nodes(copy: int) -> list[Any]:
        levels, scales = blocks(bits)
        names = [f"w{copy}", f"s{copy}"]
        given = [
            numpy_helper.from_array(v, n) for n, v in zip(names, (levels, scales), strict=True)
        ]
        options = {"K": WIDTH, "N": OUT, "bits": bits, "block_size": BLOCK, "accuracy_level": 4}
        node = helper.make_node(
            "MatMulNBits", ["x", *names], [f"y{copy}"], domain="com.microsoft", **options
        )
        return [node, *given]

    return nodes


CONTENDERS: dict[str, Callable[[int], list[Any]]] = {
    "Linear fp32": ours_float,
    "MatMul fp32": theirs_float,
    "Linear 8 bits, x 8 by block": ours(8, 8, False),
    "Linear 8 bits, x 8 by token": ours(8, 8, True),
    "Linear 8 bits, x 16 by token": ours(8, 16, True),
    "MatMulNBits 8 bits": theirs(8),
    "Linear 4 bits, x 8 by block": ours(4, 8, False),
    "MatMulNBits 4 bits": theirs(4),
}


def session(nodes: Callable[[int], list[Any]], threads: int) -> onnxruntime.InferenceSession:
    made = [nodes(copy) for copy in range(COPIES)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])
    outs = [
        helper.make_tensor_value_info(f"y{copy}", TensorProto.FLOAT, [None, OUT])
        for copy in range(COPIES)
    ]
    weights = [weight for each in made for weight in each[1:]]
    graph = helper.make_graph([each[0] for each in made], "bench", [x], outs, weights)
    domains = {"": 21, OURS: gpt2onnx_kernels.OPSET, "com.microsoft": 1}
    opsets = [helper.make_opsetid(name, version) for name, version in domains.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.spin_duration_us", "20")
    options.register_custom_ops_library(str(gpt2onnx_kernels.library()))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="contenders with this in their names")
    arguments = parser.parse_args()
    chosen = {name: nodes for name, nodes in CONTENDERS.items() if arguments.only in name}
    sessions = {name: session(nodes, arguments.threads) for name, nodes in chosen.items()}
    print(f"{gpt2onnx_kernels.kernels_here()[0]}, threads: {arguments.threads}; {WIDTH} x {OUT}")
    print(
        "rows  product                         ms   GOPS  of the ceiling        GB/s  of memory's"
    )
    for rows in ROWS:
        x = RNG.standard_normal((rows, WIDTH), dtype=np.float32)
        times: dict[str, list[float]] = {name: [] for name in sessions}
        ceilings: dict[str, list[float]] = {"rounded": [], "floats": [], "memory": []}
        for _ in range(arguments.rounds):
            ceilings["rounded"].append(gpt2onnx_kernels.operations(rounded=True))
            ceilings["floats"].append(gpt2onnx_kernels.operations(rounded=False))
            ceilings["memory"].append(MEMORY.nbytes / seconds_of(MEMORY.max))
            for name, each in sessions.items():
                times[name].append(seconds_of(partial(each.run, None, {"x": x})) / COPIES)
        highest = {name: statistics.median(found) for name, found in ceilings.items()}
        for name, taken in times.items():
            show(name, rows, statistics.median(taken), highest)


def seconds_of(work: Callable[[], object]) -> float:
    """Of the processor."""
    started = time.process_time()
    work()
    return time.process_time() - started


def show(name: str, rows: int, seconds: float, highest: dict[str, float]) -> None:
    """A product's line: what it computes and what it reads, beside the most there is of either."""
    is_float = "fp32" in name
    weight = 4 if is_float else (1 if "8 bits" in name else 0.5) + 4 / BLOCK
    done, read = 2 * rows * WIDTH * OUT / seconds, WIDTH * OUT * weight / seconds
    ceiling = highest["floats" if is_float else "rounded"]
    print(
        f"{rows:4}  {name:28} {1e3 * seconds:7.3f} {done / 1e9:6.1f} {done / ceiling:5.0%}"
        f" of {ceiling / 1e9:5.1f} {read / 1e9:10.1f} {read / highest['memory']:5.0%}"
        f" of {highest['memory'] / 1e9:4.1f}"
    )


if __name__ == "__main__":
    main()
