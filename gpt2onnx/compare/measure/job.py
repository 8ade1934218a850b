"""Runs a measurement in its own process: its memory is its own, and so is a crash.

Here is the asking side: a job goes in, what it gives or a reason comes back, as JSON between the
two. `__main__` is the other side. Knows processes; knows nothing of what is measured.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from gpt2onnx.compare.record.answers import Agreement, Placement
from gpt2onnx.compare.record.runs import Speed
from gpt2onnx.compare.record.schema import from_json, to_json
from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.runtime.ort.errors import plain

Kind: TypeAlias = Literal["reference", "answers", "placement", "speed"]
# What a job of each kind gives; the reference's answers are files, for the others to read.
GIVES: dict[Kind, Any] = {
    "reference": type(None),
    "answers": Agreement,
    "placement": Placement,
    "speed": Speed,
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a measuring process is asked for. `work` is a folder that a comparison's jobs share.

    `batch` and `context` are those of a job for the speed. `graph` is the folder's, as `load` has
    it.
    """

    kind: Kind
    folder: str
    provider: str
    threads: int | None
    tf32: bool
    cuda_graph: bool
    new_tokens: int
    prompts: list[str]
    work: str
    batch: int = 1
    context: int = 1
    graph: str = "onnx"


@dataclass(frozen=True)
class Reason:
    """Why a job gave nothing."""

    reason: str


# Does a job: what its kind gives, or a Reason.
Apart: TypeAlias = Callable[[Job], Any]
# -P: without it Python would look for modules in the user's working directory first.
COMMAND = (sys.executable, "-P", "-m", "gpt2onnx.compare")


def apart(job: Job) -> Any:
    """Do a job in a fresh process: what it gives, or the Reason why there is nothing.

    An interrupt ends that process as well.
    """
    done = subprocess.run(
        COMMAND,
        input=json.dumps(to_json(job)),
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # what a library or the system says may be of another encoding
        check=False,
    )
    if done.returncode:
        return Reason(_reason(done.returncode, done.stderr))
    answer = json.loads(done.stdout.splitlines()[-1])
    if "reason" in answer:
        return Reason(answer["reason"])
    return from_json(GIVES[job.kind], answer["result"], "what a measurement gave", Gpt2OnnxError)


def _reason(status: int, stderr: str) -> str:
    """Why a process gave no answer: the signal that ended it, or the last that it said."""
    if status == -signal.SIGKILL:
        return "its process was killed by SIGKILL, which is what Linux does when memory runs out"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    said = stderr.strip().splitlines() or [f"its process ended with status {status}"]
    return plain(said[-1])
