"""One measurement: a job as JSON on standard input, its answer as JSON on standard output.

What is an error of ours is the answer's reason; anything else ends the process, and job.py says so.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from gpt2onnx.compare.measure.job import Job, Reason
from gpt2onnx.compare.measure.jobs import answer
from gpt2onnx.compare.record.schema import from_json, to_json
from gpt2onnx.errors import Gpt2OnnxError


def main() -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    job = from_json(Job, json.load(sys.stdin), "job", Gpt2OnnxError)
    found = answer(job)
    said = to_json(found)
    print(json.dumps(said if isinstance(found, Reason) else {"result": said}))


def _end_with(parent: int) -> None:
    """End once the process that asked is gone, even by a signal that lets it end nothing itself.

    A child that loses its parent is given another: so the systems of POSIX have it. On Windows it
    isn't, and a measurement runs to its end.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()
