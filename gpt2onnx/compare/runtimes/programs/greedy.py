"""Writes greedily on one runtime, in an environment that need not have gpt2onnx.

    python greedy.py < JOB      a line of JSON comes out, the last one

JOB is job.py's, in JSON; what comes out is job.py's Written, or {"reason": why nothing}. Knows
graphs by their inputs' names alone. What runtimes print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

Rows = list[list[int]]  # of equal length
# Of caches, by ONNX Runtime's name.
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}


def present(past: str) -> str:
    return past.replace("past_key_values", "present")


class Growing:
    """Each run's present is the next one's past, whatever the graph.

    A subclass sets `caches`, name to (heads, head_dim, dtype), and runs feeds. fused: whether the
    graph takes lengths, and gives the logits of the last token alone; else it takes a mask.
    """

    caches: dict[str, tuple[int, int, Any]]
    fused = False

    def call(self, feeds: dict[str, Any]) -> dict[str, Any]:
        """Outputs by name."""
        raise NotImplementedError

    def start(self, rows: int) -> None:
        self.length = 0
        self.past = {
            name: np.zeros((rows, heads, 0, size), dtype)
            for name, (heads, size, dtype) in self.caches.items()
        }

    def read(self, ids: Rows) -> Any:
        """Append tokens [rows, n]: the logits [rows, vocab] after each row's last."""
        outputs = self.call({**self.feeds(ids), **self.past})
        self.length += len(ids[0])
        self.past = {name: outputs[present(name)] for name in self.past}
        return outputs["logits"] if self.fused else outputs["logits"][:, -1]

    def feeds(self, ids: Rows) -> dict[str, Any]:
        """All but the past."""
        rows, new = len(ids), len(ids[0])
        length = self.length + new
        given = {
            "input_ids": np.array(ids),
            "position_ids": np.tile(np.arange(self.length, length), (rows, 1)),
        }
        if not self.fused:
            return {**given, "attention_mask": np.ones((rows, length), np.int64)}
        return {
            **given,
            "seqlens_k": np.full(rows, length - 1, np.int32),
            "total_sequence_length": np.array(length, np.int32),
            "logits_index": np.arange(1, rows + 1) * new - 1,
        }


class Onnxruntime(Growing):
    """ONNX Runtime, whatever its version. A fused graph's cache is bound in place, and kept."""

    def __init__(self, job: dict[str, Any]) -> None:
        import onnxruntime

        self.api = onnxruntime
        self.version = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            str(Path(job["folder"], job["graph"])), options, ["CPUExecutionProvider"]
        )
        inputs = {value.name: value for value in self.session.get_inputs()}
        self.caches = {
            name: (value.shape[1], value.shape[3], TYPES[value.type])
            for name, value in inputs.items()
            if name.startswith("past_key_values")
        }
        self.names = [value.name for value in self.session.get_outputs()]
        self.fused = "seqlens_k" in inputs
        self.rows, self.capacity = 0, job["capacity"]

    def start(self, rows: int) -> None:
        if not self.fused:
            super().start(rows)
            return
        if rows != self.rows:
            self.bind(rows)
        self.rows, self.length = rows, 0

    def bind(self, rows: int) -> None:
        self.binding = self.session.io_binding()
        self.binding.bind_output("logits", "cpu")  # the first one bound is the first one got
        self.bound = []  # 1.20 doesn't hold them itself
        for name, (heads, size, dtype) in self.caches.items():
            room = np.zeros((rows, heads, self.capacity, size), dtype)
            value = self.api.OrtValue.ortvalue_from_numpy(room)
            self.bound.append(value)
            self.binding.bind_ortvalue_input(name, value)
            self.binding.bind_ortvalue_output(present(name), value)

    def call(self, feeds: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(self.names, self.session.run(self.names, feeds), strict=True))

    def read(self, ids: Rows) -> Any:
        if not self.fused:
            return super().read(ids)
        for name, value in self.feeds(ids).items():
            self.binding.bind_cpu_input(name, value)
        self.binding.bind_output("logits", "cpu")
        self.session.run_with_iobinding(self.binding)
        self.length += len(ids[0])
        return self.binding.get_outputs()[0].numpy()


class Openvino(Growing):
    def __init__(self, job: dict[str, Any]) -> None:
        import openvino

        self.version = openvino.__version__.partition("-")[0]
        options = {
            "INFERENCE_PRECISION_HINT": "f32",  # bf16 otherwise, where the processor has it
            "INFERENCE_NUM_THREADS": job["threads"],
            "PERFORMANCE_HINT": "LATENCY",
            **job["options"],
        }
        model = openvino.compile_model(str(Path(job["folder"], job["graph"])), "CPU", options)
        self.request = model.create_infer_request()
        shapes = {value.any_name: value.partial_shape for value in model.inputs}
        self.names = [value.any_name for value in model.outputs]
        self.fused = "seqlens_k" in shapes
        self.caches = {
            name: (shape[1].get_length(), shape[3].get_length(), np.float32)
            for name, shape in shapes.items()
            if name.startswith("past_key_values")
        }

    def call(self, feeds: dict[str, Any]) -> dict[str, Any]:
        outputs = self.request.infer(feeds, share_inputs=True)
        return {name: outputs[name] for name in self.names}


class Tract(Growing):
    def __init__(self, job: dict[str, Any]) -> None:
        import tract

        self.version = tract.version()
        loaded = tract.onnx().load(str(Path(job["folder"], job["graph"])))
        self.inputs = [loaded.input_name(at) for at in range(loaded.input_count())]
        names = [loaded.output_name(at) for at in range(loaded.output_count())]
        self.fused = "seqlens_k" in self.inputs
        self.names = ["logits", *names[1:]]  # the first goes by its node's name
        model = loaded.into_model()
        sizes = {name: str(model.input_fact(at)) for at, name in enumerate(self.inputs)}
        self.caches = {
            name: (int(fact.split(",")[1]), int(fact.split(",")[3]), np.float32)
            for name, fact in sizes.items()
            if name.startswith("past_key_values")
        }
        self.model = model.into_runnable()

    def call(self, feeds: dict[str, Any]) -> dict[str, Any]:
        outputs = self.model.run([feeds[name] for name in self.inputs])
        arrays = (each.to_numpy() for each in outputs)
        return dict(zip(self.names, arrays, strict=True))


class Reference(Growing):
    """ONNX's own evaluator, in numpy: what the standard says, slowly."""

    def __init__(self, job: dict[str, Any]) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        self.version = onnx.__version__
        model = onnx.load(str(Path(job["folder"], job["graph"])))
        onnx.checker.check_model(model)
        self.model = ReferenceEvaluator(model)
        self.caches = {
            value.name: (*(value.type.tensor_type.shape.dim[at].dim_value for at in (1, 3)), "f4")
            for value in model.graph.input
            if value.name.startswith("past_key_values")
        }

    def call(self, feeds: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(self.model.output_names, self.model.run(None, feeds), strict=True))


class Genai:
    """onnxruntime-genai, which keeps the cache itself.

    One row goes on from whatever token; several go on from their own, as it chose them.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        import onnxruntime_genai

        self.api: Any = onnxruntime_genai
        self.version = onnxruntime_genai.__version__
        config = onnxruntime_genai.Config(job["folder"])
        session = {"session_options": {"intra_op_num_threads": job["threads"]}}
        config.overlay(json.dumps({"model": {"decoder": session}}))
        self.model, self.capacity = onnxruntime_genai.Model(config), job["capacity"]

    def start(self, rows: int) -> None:
        params = self.api.GeneratorParams(self.model)
        params.set_search_options(max_length=self.capacity, batch_size=rows)
        self.generator = self.api.Generator(self.model, params)
        self.prompted = False

    def read(self, ids: Rows) -> Any:
        if self.prompted and len(ids) > 1:
            self.generator.generate_next_token()
        else:
            self.generator.append_tokens(np.array(ids, np.int32))
        self.prompted = True
        return self.generator.get_logits()[:, -1]


class Optimum:
    def __init__(self, job: dict[str, Any]) -> None:
        import onnxruntime
        import optimum.onnxruntime
        import torch

        self.torch: Any = torch
        self.version = version("optimum-onnx")
        torch.set_num_threads(job["threads"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        self.model = optimum.onnxruntime.ORTModelForCausalLM.from_pretrained(
            job["folder"], session_options=options
        )

    def start(self, rows: int) -> None:
        self.length, self.past = 0, None

    def read(self, ids: Rows) -> Any:
        self.length += len(ids[0])
        output = self.model(
            input_ids=self.torch.tensor(ids),
            attention_mask=self.torch.ones(len(ids), self.length, dtype=self.torch.int64),
            past_key_values=self.past,
            use_cache=True,
        )
        self.past = output.past_key_values
        return output.logits[:, -1].numpy()


ENGINES: dict[str, Any] = {
    "onnxruntime": Onnxruntime,
    "openvino": Openvino,
    "genai": Genai,
    "optimum": Optimum,
    "reference": Reference,
    "tract": Tract,
}


def write(engine: Any, text: dict[str, Any]) -> dict[str, Any]:
    """A token behind each row and behind each given one, or `count` of the engine's own."""
    tokens: list[list[int]] = []
    kept = []
    times = [time.perf_counter()]
    ids, given = text["ids"], text["given"]
    engine.start(len(ids))
    for at in range(text["count"]):
        logits = engine.read(ids)
        if len(logits) != len(ids):
            raise ValueError(f"it gives logits of {len(logits)} rows: expected {len(ids)}")
        tokens.append(logits.argmax(-1).tolist())
        times.append(time.perf_counter())
        ids = [[given[at] if given and at < len(given) else token] for token in tokens[-1]]
        if text["logits"]:
            kept.append(logits.astype(np.float32))
    if text["logits"]:
        np.stack(kept).tofile(text["logits"])
    return {"tokens": np.transpose(tokens).tolist(), "times": np.diff(times).tolist()}


def memory() -> dict[str, int | None]:
    """Resident bytes, and those of them that no file holds."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return {"resident_bytes": None, "anonymous_bytes": None}
    text = status.read_text()
    fields = (("resident_bytes", "VmRSS"), ("anonymous_bytes", "RssAnon"))
    return {name: int(text.split(f"{field}:")[1].split()[0]) * 1024 for name, field in fields}


def answer(job: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    engine = ENGINES[job["runtime"]](job)
    load_s = time.perf_counter() - started
    texts = [write(engine, text) for text in job["texts"]]
    return {"version": engine.version, "load_s": load_s, "texts": texts, **memory()}


def main() -> None:
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.read())
    try:
        said = answer(job)
    except Exception as error:  # the asking side says why there is nothing
        said = {"reason": str(error) or type(error).__name__}
    print(json.dumps(said), file=pipe, flush=True)
    os._exit(0)  # all is said, and some libraries' threads abort an ordinary exit


if __name__ == "__main__":
    main()
