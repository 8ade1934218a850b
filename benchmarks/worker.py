"""One engine in a process of its own: what the driver asks on standard input, it answers, as JSON
lines.

    python -m benchmarks.worker serve SPEC           answer until the input ends
    python -m benchmarks.worker convert SPEC         write what the engine opens
    python -m benchmarks.worker first-token SPEC     open, print the first token of SPEC's text

SPEC is JSON: module, folder, threads, options, and checkpoint or text where they are needed.
Runs in the engine's environment, and knows nothing of what is compared. What engines print goes to
standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    command, spec = sys.argv[1], json.loads(sys.argv[2])
    {"serve": serve, "convert": convert, "first-token": first_token}[command](spec)


def convert(spec: dict[str, Any]) -> None:
    module = importlib.import_module(spec["module"])
    module.convert(Path(spec["checkpoint"]), Path(spec["folder"]), **spec["options"])


def first_token(spec: dict[str, Any]) -> None:
    answers = own_standard_output()
    engine = open_engine(importlib.import_module(spec["module"]), spec)
    engine.greedy(
        as_rows([engine.encode(spec["text"])]),
        1,
        lambda tokens: print(engine.decode(tokens), file=answers, flush=True),
    )
    os._exit(0)  # all is said, and CTranslate2's threads now and then abort an ordinary exit


def serve(spec: dict[str, Any]) -> None:
    answers = own_standard_output()
    worker = Worker(spec)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # the driver names it, and leaves the figure out
            answer = {"error": f"{type(error).__name__}: {str(error).strip() or 'no message'}"}
        print(json.dumps(answer), file=answers, flush=True)


def own_standard_output() -> Any:
    """The driver's pipe, for answers alone: engines' own prints go to standard error."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


class Worker:
    """What can be asked. Times are seconds."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.engine: Any = None

    def open(self) -> dict[str, Any]:
        """Import the engine's libraries and open the model."""
        started = time.perf_counter()
        module = importlib.import_module(self.spec["module"])
        imported = time.perf_counter()
        self.engine = open_engine(module, self.spec)
        opened = time.perf_counter()
        return {"import_s": imported - started, "load_s": opened - started}

    def settings(self) -> dict[str, Any]:
        return dict(self.engine.settings())

    def encode(self, text: str) -> dict[str, Any]:
        return {"ids": self.engine.encode(text)}

    def greedy(
        self, prompts: list[list[int]], count: int, forced: list[list[int]] | None = None
    ) -> dict[str, Any]:
        """Write `count` tokens a row: their times, the first with the prompt, and themselves.

        With `forced` [count][rows] the engine goes on from those tokens, where it can.
        """
        rows, steps, ends = as_rows(prompts), [], []
        given = None if forced is None else as_rows(forced)

        def on_step(tokens: list[int]) -> None:
            ends.append(time.perf_counter())
            steps.append(tokens)

        started = time.perf_counter()
        self.engine.greedy(rows, count, on_step, given)
        times = [end - start for start, end in zip([started, *ends], ends, strict=False)]
        was_forced = forced is not None and self.engine.can_be_forced
        return {"times": times, "tokens": steps, "was_forced": was_forced}

    def logits(self, ids: list[int], start: int, reference: str) -> dict[str, Any]:
        """How far the logits after each of ids from `start` on are from those in a .npy file.

        Where there is no such file, they become it.
        """
        import numpy as np

        logits = self.engine.logits(np.array(ids, np.int64), start)
        if not Path(reference).exists():
            np.save(reference, logits)
        expected = np.load(reference)
        return {
            "forced_count": len(logits),
            "top1": float((logits.argmax(-1) == expected.argmax(-1)).mean()),
            "max_logit_difference": float(np.abs(logits - expected).max()),
        }

    def memory(self) -> dict[str, float]:
        """Now and at most: resident memory, mapped files that are in it included; and without."""
        status = Path("/proc/self/status").read_text()

        def megabytes(field: str) -> float:
            return int(status.split(f"{field}:")[1].split()[0]) * 1024 / 1e6

        return {
            "resident_mb": megabytes("VmRSS"),
            "anonymous_mb": megabytes("RssAnon"),
            "peak_mb": megabytes("VmHWM"),
        }


def open_engine(module: Any, spec: dict[str, Any]) -> Any:
    return module.Engine(Path(spec["folder"]), spec["threads"], **spec["options"])


def as_rows(prompts: list[list[int]]) -> Any:
    import numpy as np

    return np.array(prompts, np.int64)


if __name__ == "__main__":
    main()
