"""Other runtimes, faked: this package does their jobs, in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import gpt2onnx
from gpt2onnx.compare.runtimes.job import Job, Text, UnavailableError, Written, Wrote
from gpt2onnx.compare.runtimes.table import Runtime
from gpt2onnx.runtime.decoder import reads

VERSION = "7.8"
MISSING = "openvino isn't installed: pip install openvino"


class FakeRuntimes:
    """Keeps the jobs that it was asked for. `missing` ones aren't installed."""

    def __init__(self, *missing: str) -> None:
        self.missing = missing
        self.asked: list[Job] = []

    def require(self, runtime: Runtime) -> None:
        if runtime.name in self.missing:
            raise UnavailableError(MISSING)

    def write(self, job: Job) -> Written:
        self.asked.append(job)
        model = gpt2onnx.load(job.folder, threads=1, provider="cpu", startup_cache=False)
        model.defaults = {}
        texts = [self.wrote(model, text) for text in job.texts]
        memory = {"resident_bytes": 1_000_000, "anonymous_bytes": None}
        return Written(version=VERSION, load_s=0.5, texts=texts, **memory)

    def wrote(self, model: gpt2onnx.Model, text: Text) -> Wrote:
        """Each step takes a millisecond, the first four."""
        times = [4e-3] + [1e-3] * (text.count - 1)
        if text.given is None:
            written = model.generate(text.ids, max_new_tokens=text.count, do_sample=False)
            tokens = [list(each.token_ids) for each in written]
        else:
            tokens = [text.given[: text.count]]
        if text.logits is None:
            return Wrote(tokens, times)
        (prompt,) = text.ids
        ids = np.array([*prompt, *tokens[0]])[: len(prompt) + text.count - 1]
        row = model.decoder.new_row()
        logits = self.logits(reads.extend(model.decoder, row, ids)[len(prompt) - 1 :])
        model.decoder.free(row)
        logits.tofile(Path(text.logits))
        return Wrote([logits.argmax(-1).tolist()], times)

    def logits(self, right: np.ndarray) -> np.ndarray:
        """[n, vocab], as they come out."""
        return right
