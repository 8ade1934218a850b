"""Runs a command on ONNX Runtime's real CUDA provider without a GPU; the host computes.

    python -m tests.cuda.on_host COMMAND [ARGUMENT…]

Over a stand-in for CUDA's libraries (stand_in/) ONNX Runtime places, copies and captures as on
a device, and each kernel that it launches is a function on the host. They are those of graphs that
were exported with `--device cuda`, with heads of 64; any other fails by its name. So answers can be
compared with the CPU's; whether CUDA's own kernels give them, and how fast, only a device can tell.
Everything is done in the order it was asked for: waiting that is missing doesn't show.

From the project's root; wants what launches.py wants:

    PYTHONPATH=DIR python -m tests.cuda.on_host python -m pytest tests/runtime/test_on_cuda.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cuda.stand_in import build


def main() -> None:
    command = sys.argv[1:]
    if not command or command[0] in ("-h", "--help"):
        sys.exit(__doc__)
    try:
        with tempfile.TemporaryDirectory() as folder:
            names = build.build(build.provider(), Path(folder), computes=True)
            environment = os.environ | build.environment(Path(folder), names)
            sys.exit(subprocess.run(command, env=environment).returncode)
    except (build.BuildError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
