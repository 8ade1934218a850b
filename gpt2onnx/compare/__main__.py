"""One measurement: a job as JSON on standard input, its answer as JSON on standard output.

What is an error of ours is the answer's reason; anything else ends the process, and job.py says so.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from gpt2onnx.compare.jobs import answer


def main() -> None:
    job: dict[str, Any] = json.load(sys.stdin)
    print(json.dumps(answer(job)))


if __name__ == "__main__":
    main()
