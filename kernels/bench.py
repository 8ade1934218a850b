"""Each kernel beside what the processor can do at most: its share of the ceiling.

    python -P kernels/bench.py [--threads N] [--rounds N]

A product is measured as COPIES nodes of distinct weights in one graph, more than any cache holds,
at M tokens; attention as as many nodes of distinct KV caches, on prompts and on steps. The ceiling
is `gpt2onnx_kernels.operations`: the kernels' own multiply-adds on numbers
in the first cache, on one thread, measured in turn with the products; at M = 1 it is what a plain
sum over memory reads. Times are the processor's, so that what else the machine does counts little,
and each thread has a ceiling of its own. Contenders take turns; medians. All nodes write to one
place. A prompt's attention is told by the multiply-adds that it can't do without, those of the keys
that each token sees.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gpt2onnx_kernels
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WIDTH, OUT, COPIES = 768, 3072, 24
ROWS = (1, 8, 32, 128, 512)
BLOCK = 32
OURS = gpt2onnx_kernels.DOMAIN
# Attention's: GPT-2's heads, and by name the tokens of a run and those in the cache before it.
HEADS, HEAD_DIM, CAPACITY = 12, 64, 1024
RUNS = {
    "prompt of 128": (128, 0),
    "prompt of 512": (512, 0),
    "prompt of 1000": (1000, 0),
    "step at 128": (1, 128),
    "step at 512": (1, 512),
    "step at 900": (1, 900),
}
STORES = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}
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


def session(
    nodes: list[Any], weights: list[Any], inputs: list[Any], width: int, threads: int
) -> onnxruntime.InferenceSession:
    """Of nodes whose outputs are [tokens, width]."""
    outs = [
        helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [None, width])
        for node in nodes
    ]
    graph = helper.make_graph(nodes, "bench", inputs, outs, weights)
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


def bound(
    session: onnxruntime.InferenceSession, inputs: Mapping[str, np.ndarray], tokens: int, width: int
) -> Callable[[], object]:
    """A run whose outputs all go to one place, as layers' do: new memory would be timed, too."""
    places = session.io_binding()
    for name, value in inputs.items():
        places.bind_cpu_input(name, value)
    out = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((tokens, width), np.float32))
    for node in session.get_outputs():
        places.bind_ortvalue_output(node.name, out)

    def run(_held: object = (inputs, out)) -> None:
        session.run_with_iobinding(places)

    return run


def products(nodes: Callable[[int], list[Any]], threads: int) -> onnxruntime.InferenceSession:
    made = [nodes(copy) for copy in range(COPIES)]
    weights = [weight for each in made for weight in each[1:]]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])
    return session([each[0] for each in made], weights, [x], OUT, threads)


class Attention:
    """COPIES layers' attention over a cache each."""

    def __init__(self, store: str, threads: int) -> None:
        self.type = np.dtype(STORES[store])
        shape = [1, HEADS, CAPACITY, HEAD_DIM]
        names = [f"{part}{copy}" for copy in range(COPIES) for part in ("k", "v")]
        self.caches = {name: np.ones(shape, self.type) for name in names}
        kind = helper.np_dtype_to_tensor_dtype(self.type)
        inputs = [helper.make_tensor_value_info(name, kind, shape) for name in names]
        width = HEADS * HEAD_DIM
        inputs.append(helper.make_tensor_value_info("qkv", TensorProto.FLOAT, [None, 3 * width]))
        inputs += [
            helper.make_tensor_value_info(name, TensorProto.INT64, [None])
            for name in ("rows", "slots")
        ]
        options = {"domain": OURS, "heads": HEADS, "scale": HEAD_DIM**-0.5}
        nodes = [
            helper.make_node(
                "Attention",
                ["qkv", "rows", "slots", f"k{copy}", f"v{copy}"],
                [f"y{copy}"],
                **options,
            )
            for copy in range(COPIES)
        ]
        self.session = session(nodes, [], inputs, width, threads)

    def run(self, tokens: int, before: int) -> Callable[[], object]:
        """Reads `tokens` tokens behind `before` others."""
        qkv = RNG.standard_normal((tokens, 3 * HEADS * HEAD_DIM), dtype=np.float32)
        slots = np.arange(before, before + tokens)
        told: dict[str, np.ndarray] = {"qkv": qkv, "rows": np.zeros_like(slots), "slots": slots}
        told |= self.caches
        return bound(self.session, told, tokens, HEADS * HEAD_DIM)


class Measured(NamedTuple):
    """Seconds of each contender, and the most a second: operations, and bytes of memory."""

    seconds: dict[str, float]
    rounded: float
    floats: float
    memory: float


def measured(contenders: Mapping[str, Callable[[], object]], rounds: int) -> Measured:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    rounded, floats, memory = [], [], []
    for _ in range(rounds):
        rounded.append(gpt2onnx_kernels.operations(rounded=True))
        floats.append(gpt2onnx_kernels.operations(rounded=False))
        memory.append(MEMORY.nbytes / seconds_of(MEMORY.max))
        for name, each in contenders.items():
            times[name].append(seconds_of(each) / COPIES)
    seconds = {name: statistics.median(found) for name, found in times.items()}
    highest = [statistics.median(found) for found in (rounded, floats, memory)]
    return Measured(seconds, *highest)


def seconds_of(work: Callable[[], object]) -> float:
    """Of the processor."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="contenders with this in their names")
    arguments = parser.parse_args()
    print(f"{gpt2onnx_kernels.kernels_here()[0]}, threads: {arguments.threads}; {WIDTH} x {OUT}")
    print(f"{'':14}  {'':28}      ms   GOPS  of the ceiling        GB/s  of memory's")
    show_products(arguments.only, arguments.threads, arguments.rounds)
    show_attention(arguments.only, arguments.threads, arguments.rounds)


def show_products(only: str, threads: int, rounds: int) -> None:
    chosen = {name: nodes for name, nodes in CONTENDERS.items() if only in name}
    sessions = {name: products(nodes, threads) for name, nodes in chosen.items()}
    for rows in ROWS if sessions else ():
        x = RNG.standard_normal((rows, WIDTH), dtype=np.float32)
        runs = {name: bound(each, {"x": x}, rows, OUT) for name, each in sessions.items()}
        found = measured(runs, rounds)
        for name, seconds in found.seconds.items():
            is_float = "fp32" in name
            weight = 4 if is_float else (1 if "8 bits" in name else 0.5) + 4 / BLOCK
            most = found.floats if is_float else found.rounded
            done, read = 2 * rows * WIDTH * OUT, WIDTH * OUT * weight
            show(f"{rows} rows", name, seconds, done, most, read, found.memory)


def show_attention(only: str, threads: int, rounds: int) -> None:
    names = {f"Attention {store}": store for store in STORES}
    layers = {name: Attention(store, threads) for name, store in names.items() if only in name}
    for run, (tokens, before) in RUNS.items() if layers else ():
        runs = {name: each.run(tokens, before) for name, each in layers.items()}
        found = measured(runs, rounds)
        seen = sum(range(before + 1, before + tokens + 1))
        for name, seconds in found.seconds.items():
            done = 2 * 2 * HEADS * HEAD_DIM * seen  # keys and values
            read = 2 * HEADS * HEAD_DIM * (before + tokens) * layers[name].type.itemsize
            show(run, name, seconds, done, found.floats, read, found.memory)


def show(
    what: str, name: str, seconds: float, done: float, most: float, read: float, memory: float
) -> None:
    """A line: what is computed and what is read, beside the most a second there is of either."""
    print(
        f"{what:14}  {name:28} {1e3 * seconds:7.3f} {done / seconds / 1e9:6.1f}"
        f" {done / seconds / most:5.0%} of {most / 1e9:5.1f}"
        f" {read / seconds / 1e9:10.1f} {read / seconds / memory:5.0%} of {memory / 1e9:4.1f}"
    )


if __name__ == "__main__":
    main()
