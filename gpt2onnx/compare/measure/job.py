"""A measurement in a process of its own, so that its memory is its own and its end ends no other.

Here is the asking side: plain data goes in, plain data or a reason comes back. `__main__` is the
other side. Knows processes; knows nothing of what is measured.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gpt2onnx.runtime.ort.errors import plain

Job: TypeAlias = Mapping[str, Any]
# What a job gives: {"result": …} or {"reason": …}.
Apart: TypeAlias = Callable[[Job], Mapping[str, Any]]
# -P: without it Python would look for modules in the user's working directory first.
COMMAND = (sys.executable, "-P", "-m", "gpt2onnx.compare")


def apart(job: Job) -> Mapping[str, Any]:
    """Do a job in a fresh process: its result, or the reason why there is none.

    An interrupt ends that process as well.
    """
    done = subprocess.run(
        COMMAND,
        input=json.dumps(job),
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # what a library or the system says may be of another encoding
        check=False,
    )
    if done.returncode:
        return {"reason": _reason(done.returncode, done.stderr)}
    answer: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _reason(status: int, stderr: str) -> str:
    """Why a process gave no answer: the signal that ended it, or the last that it said."""
    if status == -signal.SIGKILL:
        return "its process was killed by SIGKILL, which is what Linux does when memory runs out"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    said = stderr.strip().splitlines() or [f"its process ended with status {status}"]
    return plain(said[-1])
