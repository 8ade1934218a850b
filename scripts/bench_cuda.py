"""Everything that a CUDA device has to show, in one command: right answers, then times.

    python scripts/bench_cuda.py [--checkpoint DIR] [--out FILE.json] [--minutes 8]
    python scripts/bench_cuda.py --device cpu --quick     # the same code without a device

Wants onnx and onnxruntime-gpu; torch and transformers for the comparison. Without --checkpoint a
GPT-2 124M with random weights is written. In every precision it is exported for the device and

- its logits compared with the CPU's in fp32 and with torch's, in steps plain and as CUDA graphs,
  over a cache that grows on the way; rows of unequal lengths compared with each alone; beams with
  the same model's on the CPU,
- a decode step timed at each batch, plain and as CUDA graphs: the decoder's alone with all logits
  on the host, and with the largest alone, and the whole loop's, greedy and drawn, the sampler's
  time included; transformers eager and compiled with a static cache in half precision, argmax on
  the device.

Parts that fail print their traceback and keep no other from running; those for which no time is
left say so. A Markdown table and one line of JSON come last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import gpt2onnx
from gpt2onnx.runtime import generation
from gpt2onnx.samplers import GenerationParams

DEMO = Path(gpt2onnx.__file__).parent / "demo" / "model"
PRECISIONS = ("fp16", "int8", "int4", "fp32")
MODES = {"plain": {"enable_cuda_graph": "0"}, "graphs": {"enable_cuda_graph": "1"}}
# A cache begins with 128 tokens' room, so that steps from here to behind it see it grow.
PROMPT, STEPS = 120, 16
UNEQUAL = (1, 37, 64, 9)


class Bench:
    """What was asked for, and what has been exported, opened and found so far."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.ends = time.monotonic() + 60 * args.minutes
        self.batches = (1, 4) if args.quick else (1, 8, 32, 128)
        self.steps = 4 if args.quick else 64
        self.modes = MODES if args.device == "cuda" else {"plain": None}
        self.found: dict[str, Any] = {}
        self.open = cache(self._open)  # models stay open until the end
        self.exported = cache(self._exported)

    @property
    @cache  # noqa: B019 - one object, as long as the process
    def checkpoint(self) -> Path:
        if self.args.quick or self.args.checkpoint:
            return self.args.checkpoint or DEMO
        import random_checkpoint

        out = self.folder / "gpt2"
        out.mkdir()
        random_checkpoint.write_weights(out, "gpt2", np.random.default_rng(0))
        random_checkpoint.write_config(out, "gpt2")
        random_checkpoint.write_tokenizer(out, None)
        return out

    def _exported(self, precision: str, device: str = "cuda") -> Path:
        """What runs here is made for CUDA, the reference alone for the CPU."""
        out = self.folder / f"{precision}-{device}"
        return gpt2onnx.export(
            self.checkpoint, out, precision=precision, device=device, verify=False
        ).folder

    def _open(self, precision: str, mode: str) -> gpt2onnx.Model:
        model = gpt2onnx.load(
            self.exported(precision), self.args.device, provider_options=self.modes[mode]
        )
        print(f"# {precision}, {mode}: {model.decoder.session.choice}")
        return model

    @cache  # noqa: B019
    def reference(self, precision: str = "fp32") -> gpt2onnx.Model:
        """On the CPU fp32 as made for it; any other as made for CUDA."""
        made = self.exported("fp32", "cpu") if precision == "fp32" else self.exported(precision)
        return gpt2onnx.load(made, "cpu")

    @property
    def ids(self) -> np.ndarray:
        vocab = self.reference().decoder.vocab_size
        return np.random.default_rng(7).integers(0, vocab, PROMPT + STEPS)

    def part(self, name: str, run: Callable[[], Any]) -> None:
        if time.monotonic() > self.ends:
            self.found[name] = {"skipped": "no time left"}
        else:
            started = time.monotonic()
            try:
                self.found[name] = run()
            except Exception as error:  # one part's failure must not hide the others
                traceback.print_exc(file=sys.stdout)
                self.found[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
            print(f"{name} ({time.monotonic() - started:.1f} s): {json.dumps(self.found[name])}")
        sys.stdout.flush()


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is to be found out, the right answers first."""
    for precision in PRECISIONS:
        for mode in bench.modes:
            name = f"{precision} {mode}"
            yield f"agreement {name}", lambda p=precision, m=mode: agreement(bench, p, m)
            yield f"rows {name}", lambda p=precision, m=mode: independence(bench, p, m)
            yield f"beams {name}", lambda p=precision, m=mode: beams(bench, p, m)
        if len(bench.modes) > 1:
            yield f"graphs {precision}", lambda p=precision: graphs(bench, p)
    yield "torch", lambda: torch_agreement(bench)
    for precision in PRECISIONS:
        for mode in bench.modes:
            for batch in bench.batches:
                name = f"{precision} {mode}, batch {batch}"
                for kind in ("step", "step_largest"):
                    yield (
                        f"{kind} {name}",
                        lambda p=precision, m=mode, b=batch, k=kind: step_time(bench, p, m, b, k),
                    )
                for kind in ("loop", "drawn"):
                    yield (
                        f"{kind} {name}",
                        lambda p=precision, m=mode, b=batch, k=kind: loop_time(
                            bench, p, m, b, drawn=k == "drawn"
                        ),
                    )
    for batch in bench.batches:
        yield f"eager, batch {batch}", lambda b=batch: torch_time(bench, b, compiled=False)
    if bench.args.device == "cuda":
        for batch in (bench.batches[0], *bench.batches[:0:-1]):  # the smallest, then the largest on
            yield f"compiled, batch {batch}", lambda b=batch: torch_time(bench, b, compiled=True)


def difference(logits: np.ndarray, others: np.ndarray) -> dict[str, float]:
    """How far two pieces of logits [n, vocab] are apart."""
    p, q = (np.exp(x - x.max(-1, keepdims=True)) for x in (others, logits))
    p, q = (x / x.sum(-1, keepdims=True) for x in (p.astype(np.float64), q.astype(np.float64)))
    return {
        "max": float(np.abs(logits - others).max()),
        "top1": float((logits.argmax(-1) == others.argmax(-1)).mean()),
        "kl": float((p * np.log(p / q)).sum(-1).mean()),
    }


def stepped(model: gpt2onnx.Model, ids: np.ndarray, prompt: int) -> np.ndarray:
    """Logits [len(ids) - prompt + 1, vocab] after the prompt and after each token behind it."""
    decoder: Any = model.decoder
    row = decoder.new_row()
    logits = [decoder.prefill(row, ids[:prompt])]
    logits += [decoder.step([row], ids[at : at + 1])[0] for at in range(prompt, len(ids))]
    decoder.free(row)
    return np.stack(logits)


def agreement(bench: Bench, precision: str, mode: str) -> dict[str, float]:
    ours = stepped(bench.open(precision, mode), bench.ids, PROMPT)
    return difference(ours, stepped(bench.reference(), bench.ids, PROMPT))


def graphs(bench: Bench, precision: str) -> dict[str, float]:
    """Steps as CUDA graphs against plain ones."""
    captured, plain = (bench.open(precision, mode) for mode in ("graphs", "plain"))
    return difference(stepped(captured, bench.ids, PROMPT), stepped(plain, bench.ids, PROMPT))


def independence(bench: Bench, precision: str, mode: str) -> dict[str, float]:
    """Rows of unequal lengths together against each alone."""
    model = bench.open(precision, mode)
    decoder: Any = model.decoder
    texts = [bench.ids[-length - STEPS :] for length in UNEQUAL]
    rows = [decoder.new_row() for _ in texts]
    last = [decoder.prefill(row, ids[:-STEPS]) for row, ids in zip(rows, texts, strict=True)]
    newest = [np.array([ids[at] for ids in texts]) for at in range(-STEPS, 0)]
    together = np.stack([last, *(decoder.step(rows, ids) for ids in newest)], axis=1)
    for row in rows:
        decoder.free(row)
    alone = [stepped(model, ids, len(ids) - STEPS) for ids in texts]
    return difference(np.concatenate(together), np.concatenate(alone))


def beams(bench: Bench, precision: str, mode: str) -> dict[str, Any]:
    """Beam search against the same model's on the CPU."""
    settings = {"max_new_tokens": STEPS, "num_beams": 4, "num_return_sequences": 4}
    models = bench.open(precision, mode), bench.reference(precision)
    ours, theirs = (model.generate(bench.ids[:32], **settings) for model in models)
    scores = [[result.score for result in results] for results in (ours, theirs)]
    return {
        "same": [a.token_ids == b.token_ids for a, b in zip(ours, theirs, strict=True)],
        "score difference": float(np.abs(np.subtract(*scores)).max()),
    }


def step_time(bench: Bench, precision: str, mode: str, batch: int, kind: str) -> dict[str, float]:
    """The decoder alone: all logits on the host after every step, or the largest."""
    decoder: Any = bench.open(precision, mode).decoder
    decoder.reserve(batch, 32 + bench.steps + 8)
    rows = [decoder.new_row()]
    decoder.prefill(rows[0], bench.ids[:32])
    rows += [decoder.fork(rows[0]) for _ in range(batch - 1)]
    ids = np.arange(batch)
    step = getattr(decoder, kind)
    times = timed(lambda: step(rows, ids), bench.steps)
    for row in reversed(rows):
        decoder.free(row)
    return speed(times, batch)


def loop_time(bench: Bench, precision: str, mode: str, batch: int, drawn: bool) -> dict[str, float]:
    """Generation, from one choice to the next: greedy, or drawn from the 50 most probable.

    repeated: steps that were repeated for all logits, where the largest didn't settle a choice.
    """
    sampling: dict[str, Any] = {"do_sample": True, "seed": 1} if drawn else {}
    params = GenerationParams(max_new_tokens=bench.steps + 4, **sampling)
    rows = [
        generation.Continuation(index, bench.ids[:32], params, draw=index) for index in range(batch)
    ]
    decoder: Any = bench.open(precision, mode).decoder
    decoder.reserve(batch, 32 + bench.steps + 8)
    repeated = 0

    def repeat(rows: Any, ids: np.ndarray) -> np.ndarray:
        nonlocal repeated
        repeated += 1
        return type(decoder).step(decoder, rows, ids)

    decoder.step = repeat
    steps = generation.run(decoder, rows, whole=False)
    stamps = [time.perf_counter() for step in steps if step.sequence == 0]
    del decoder.step
    return speed(np.diff(stamps)[3:].tolist(), batch) | {"repeated": repeated}


def timed(step: Callable[[], Any], count: int) -> list[float]:
    """Seconds of each call, the first few, which allocate and capture, left out."""
    for _ in range(4):
        step()
    stamps = [time.perf_counter()]
    for _ in range(count):
        step()
        stamps.append(time.perf_counter())
    return np.diff(stamps).tolist()


def speed(times: list[float], batch: int) -> dict[str, float]:
    median = statistics.median(times)
    p95 = float(np.quantile(times, 0.95))
    return {"ms": 1e3 * median, "p95 ms": 1e3 * p95, "tokens/s": batch / median}


def torch_model(bench: Bench, half: bool) -> Any:
    import torch
    from transformers import GPT2LMHeadModel

    torch.backends.cuda.matmul.allow_tf32 = False
    dtype = torch.float16 if half and bench.args.device == "cuda" else torch.float32
    model = GPT2LMHeadModel.from_pretrained(bench.checkpoint).to(bench.args.device, dtype)
    return model.eval()


def torch_agreement(bench: Bench) -> dict[str, Any]:
    """fp16 here against torch on the same device; the prompt and what is stepped behind it."""
    import torch

    found = {}
    ours = stepped(bench.open("fp16", [*bench.modes][-1]), bench.ids, PROMPT)
    for name, half in (("fp32", False), ("fp16", True)):
        with torch.inference_mode():
            ids = torch.from_numpy(bench.ids)[None].to(bench.args.device)
            theirs = torch_model(bench, half)(ids).logits[0, PROMPT - 1 :].float().cpu().numpy()
        found[name] = difference(ours, theirs)
    return found


def torch_time(bench: Bench, batch: int, compiled: bool) -> dict[str, float]:
    """transformers' step and argmax, in half precision on CUDA; compiled, with a static cache."""
    import inspect

    import torch
    from transformers import DynamicCache, StaticCache

    model, room = torch_model(bench, half=True), 32 + bench.steps + 8
    ids = torch.from_numpy(bench.ids[:32])[None].repeat(batch, 1).to(model.device)
    past: Any = DynamicCache()
    forward: Any = model
    if compiled:
        torch.compiler.reset()
        past = StaticCache(config=model.config, max_cache_len=room)
        forward = torch.compile(model, mode="reduce-overhead", fullgraph=True, dynamic=False)
    # transformers 4 is told where a static cache goes on; 5 keeps count itself.
    told = "cache_position" in inspect.signature(model.forward).parameters
    place = torch.arange(32, device=model.device)

    def step() -> None:
        nonlocal newest, place
        place = place[-1:] + 1
        where = {"cache_position": place} if told else {}
        logits = forward(newest, past_key_values=past, **where).logits
        newest = logits[:, -1:].argmax(-1).clone()  # a replay overwrites what it gave
        newest.cpu()  # as a loop that may stop has to

    with torch.inference_mode():
        where = {"cache_position": place} if told else {}
        first = model(ids, past_key_values=past, use_cache=True, **where)
        newest = first.logits[:, -1:].argmax(-1)
        times = timed(step, bench.steps)
    return speed(times, batch)


def machine(bench: Bench) -> dict[str, Any]:
    import importlib.metadata as metadata
    import platform
    import shutil
    import subprocess

    found: dict[str, Any] = {"python": platform.python_version()}
    for package in ("onnxruntime", "onnxruntime-gpu", "torch", "transformers", "numpy", "onnx"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        found["gpu"] = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    return found | {"gpt2onnx": gpt2onnx.__version__}


def table(found: dict[str, Any]) -> str:
    """The times as Markdown."""
    lines = ["| | ms a step | p95 | tokens/s |", "| --- | --- | --- | --- |"]
    for name, value in found.items():
        if isinstance(value, dict) and "tokens/s" in value:
            figures = f"{value['ms']:.3f} | {value['p95 ms']:.3f} | {value['tokens/s']:,.0f}"
            lines.append(f"| {name} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="the bundled model, few steps")
    parser.add_argument("--checkpoint", type=Path, help="a GPT-2 (default: random weights, 124M)")
    parser.add_argument("--minutes", type=float, default=8, help="begin no part after that")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, Path(folder))
        bench.part("machine", lambda: machine(bench))
        for name, run in parts(bench):
            bench.part(name, run)
    text = json.dumps(bench.found)
    if args.out:
        args.out.write_text(text + "\n")
    print(f"{table(bench.found)}\n{text}")
    failed = [name for name, value in bench.found.items() if "error" in value]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
