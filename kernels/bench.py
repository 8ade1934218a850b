"""Each kernel beside what the processor can do at most: its share of the ceiling.

    python kernels/bench.py [--threads N] [--rounds N]

A product is measured as COPIES nodes of distinct weights in one graph, more than any cache holds,
at M tokens; attention over a cache of distinct rows. The ceilings are measured by the same nodes'
own arithmetic where that can be: fp32 multiply-adds and 16-bit ones by numbers that stay in
registers aren't to be had from Python, so the best figure of any M stands beside, and numpy's
matrix product and a plain sum over memory as the machine's own. Contenders take turns; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gpt2onnx_kernels
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WIDTH, OUT, COPIES = 768, 3072, 24
ROWS = (1, 8, 32, 128)
BLOCK = 32
OURS = gpt2onnx_kernels.DOMAIN
RNG = np.random.default_rng(0)


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
    print(f"{gpt2onnx_kernels.kernels_here()[0]}, {arguments.threads} threads: G multiply-adds * 2")
    print("of weights", WIDTH, "x", OUT, "a second, and GB/s of them at one row")
    for rows in ROWS:
        x = RNG.standard_normal((rows, WIDTH), dtype=np.float32)
        times: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(arguments.rounds):
            for name, each in sessions.items():
                start = time.process_time()
                each.run(None, {"x": x})
                times[name].append(time.process_time() - start)
        for name, taken in times.items():
            seconds = min(taken) / COPIES, statistics.median(taken) / COPIES
            operations = 2 * rows * WIDTH * OUT
            size = 4 if "fp32" in name else (1 if "8 bits" in name else 0.5) + 4 / BLOCK
            print(
                f"{rows:4} {name:30} {seconds[1] * 1e3:8.3f} ms"
                f"  median {operations / seconds[1] / 1e9:7.1f}"
                f"  best {operations / seconds[0] / 1e9:7.1f} GOPS"
                + (f"  {WIDTH * OUT * size / seconds[1] / 1e9:5.1f} GB/s" if rows == 1 else "")
            )


if __name__ == "__main__":
    main()
