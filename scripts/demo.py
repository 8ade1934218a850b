"""Export the bundled model to INT8, check it, and watch it write: what `scripts/demo` runs."""

from __future__ import annotations

import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import numpy as np

import gpt2onnx
from gpt2onnx.demo import CHECKPOINT, HELD_OUT
from gpt2onnx.runtime.decoder import reads

PROMPT = 'class Stack:\n    """'
SAMPLING = {
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.9,
    "repetition_penalty": 1.1,
    "seed": 2,
}
CHECKED_TOKENS = 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = gpt2onnx.export(CHECKPOINT, Path(folder, "int8"), precision="int8", verify=False)
        gpt2onnx.export(CHECKPOINT, Path(folder, "fp32"), precision="fp32", verify=False)
        print(f"Exported to INT8 in {made.seconds:.2f} s: {made.size / 1e6:.1f} MB\n")
        started = time.perf_counter()
        model = gpt2onnx.load(made.folder, provider="cpu")
        load_seconds = time.perf_counter() - started
        check(model, gpt2onnx.load(Path(folder, "fp32"), provider="cpu"))
        write(model, load_seconds)
    loaded = {"torch", "transformers"} & sys.modules.keys()
    print(f"PyTorch was {'loaded' if loaded else 'not loaded'}.")


def check(model: gpt2onnx.Model, reference: gpt2onnx.Model) -> None:
    """INT8 against fp32 on a module of Python's that neither has seen in training."""
    model.folder.check_hashes()
    ids = model.tokenizer.encode(held_out_text()).ids[:CHECKED_TOKENS]
    perplexities = [m.score(ids).perplexity for m in (model, reference)]
    best, expected = (top_tokens(m, ids) for m in (model, reference))
    print(
        f"Checked on {len(ids)} tokens it has not seen: perplexity {perplexities[0]:.2f}, in fp32 "
        f"{perplexities[1]:.2f}; the top token is the same at {np.mean(best == expected):.1%}\n"
    )


def top_tokens(model: gpt2onnx.Model, ids: list[int]) -> np.ndarray:
    """The most probable token after each of `ids` [n]: [n]."""
    row = model.decoder.new_row()
    logits = reads.extend(model.decoder, row, np.array(ids))
    model.decoder.free(row)
    return logits.argmax(axis=-1)


def held_out_text() -> str:
    """The first held-out module that this Python has, long enough to be checked on."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in HELD_OUT.read_text().split():
        module = library.joinpath(*name.split(".")).with_suffix(".py")
        if module.is_file() and module.stat().st_size > 8 * CHECKED_TOKENS:
            return module.read_text(encoding="utf-8")
    raise SystemExit(f"none of the modules that {HELD_OUT} names is in {library}")


def write(model: gpt2onnx.Model, load_seconds: float) -> None:
    """Stream from a prompt, then say what it cost."""
    print(f"--- from {PROMPT!r} ---\n{PROMPT}", end="", flush=True)
    times = [time.perf_counter()]
    for token in model.stream(PROMPT, max_new_tokens=150, **SAMPLING):
        times.append(time.perf_counter())
        print(token.text, end="", flush=True)
    steps = len(times) - 2
    print(
        f"\n---\nLoaded in {load_seconds:.2f} s, first token {(times[1] - times[0]) * 1e3:.1f} ms "
        f"after the prompt, then {steps / (times[-1] - times[1]):.0f} tokens/s\n"
        f"Ran on {model.session.choice}."
    )


if __name__ == "__main__":
    main()
