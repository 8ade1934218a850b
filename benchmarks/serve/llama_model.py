"""A checkpoint as llama-server opens it: GGUF, quantized by llama.cpp's own tool.

    python -m benchmarks.serve.llama_model CHECKPOINT QUANTIZE OUT.gguf [--ftype Q8_0]

QUANTIZE is llama.cpp's llama-quantize. Needs the packages gguf and safetensors.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from benchmarks.peers.llama_cpp import write_gguf


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("quantize", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ftype", default="Q8_0")
    args = parser.parse_args()
    whole = args.out.with_suffix(".whole.gguf")
    write_gguf(args.checkpoint, whole)
    try:
        subprocess.run([args.quantize, whole, args.out, args.ftype], check=True)
    finally:
        whole.unlink()


if __name__ == "__main__":
    main()
