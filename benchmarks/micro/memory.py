"""The memory of a process while it generates, in MB, as JSON: what start.py runs.

    python benchmarks/micro/memory.py FOLDER

Imports nothing but gpt2onnx, so that it measures whichever checkout is on the path.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

CONTEXT, TOKENS = 128, 64
FIELDS = ("Rss", "Pss", "Anonymous")


def memory(folder: str) -> dict[str, float | str]:
    """Megabytes of this process while it generates."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does
    import gpt2onnx

    model = gpt2onnx.load(folder, provider="cpu")
    vocab = model.decoder.vocab_size
    prompt = [token % vocab for token in range(1000, 1000 + CONTEXT)]
    tokens = model.stream(prompt, max_new_tokens=TOKENS + 1, min_new_tokens=TOKENS + 1)
    for _ in range(TOKENS):
        next(tokens)
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    fields = {line.partition(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    startup = getattr(model.session, "startup", "no start-up cache")
    return {**{name: fields[name] for name in FIELDS}, "peak": peak, "startup": startup}


if __name__ == "__main__":
    print(json.dumps(memory(sys.argv[1])))
