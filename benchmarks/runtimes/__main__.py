"""scripts/runtimes: what is asked for, and where it goes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.process import ROOT
from benchmarks.runtimes.measure import Bench, attempt
from benchmarks.runtimes.page import page
from benchmarks.runtimes.record import Record
from benchmarks.runtimes.rows import ROWS
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.runtime.ort.kernels import OFF, VARIABLE
from gpt2onnx.staging import work_folder

DESCRIPTION = """\
Runs the bundled model on every runtime, in every graph and precision, and writes docs/runtimes.md.
Environments are made once and kept, and so is what was measured of runtimes that aren't asked for.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/runtimes", description=DESCRIPTION)
    parser.add_argument("--runtimes", metavar="A,B", help="those alone (default: all)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="(default: 1)")
    parser.add_argument("--environments", type=Path, default=ROOT / ".environments", metavar="DIR")
    parser.add_argument("--record", type=Path, default=ROOT / "build/runtimes.json", metavar="FILE")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "runtimes.md", metavar="FILE")
    asked = parser.parse_args()
    names = asked.runtimes.split(",") if asked.runtimes else [row.runtime for row in ROWS]
    record = Record(asked.record)
    os.environ[VARIABLE] = OFF  # the reference runs the operators that the others run
    with work_folder("runtimes") as models:
        bench = Bench(CHECKPOINT, models, asked.environments.resolve(), asked.threads)
        for row in (row for row in ROWS if row.runtime in names):
            for cell in row.cells():
                record.put(row, *cell, attempt(bench, row, *cell))
    asked.out.write_text(page(record.found(), asked.threads), encoding="utf-8")


if __name__ == "__main__":
    main()
