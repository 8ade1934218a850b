"""`python -m gpt2onnx`."""

from __future__ import annotations

import sys

from gpt2onnx.cli import main

if __name__ == "__main__":
    sys.exit(main())
