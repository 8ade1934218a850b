"""What smaller checkpoints of the bundled model cost and bring, on modules that it has not seen.

    python -m benchmarks.smaller [--write FILE] [--distill STEPS] [--folder FOLDER] [--quick]

Trims and prunes the bundled model by some modules of Python's standard library that it has learned
from, distils it on all of those with --distill, exports each in INT8 as well as the original, and
prints a table in Markdown; --write puts it into a file, between its markers. --folder keeps the
checkpoints, and takes those that are there. Perplexities can't be compared where the tokens differ:
bits a byte can. KL is over the tokens that both have, on pieces of text that hold no other. Times
are medians; the models take turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.markdown_table import table
from benchmarks.quality import Exported, circumstances, held_out_modules, replace
from gpt2onnx.agreement import Agreement
from gpt2onnx.cli.output.bar import Bars
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.evaluation import Evaluation, evaluate
from gpt2onnx.runtime.engine.score import walk
from gpt2onnx.runtime.machine.threads import default_threads
from gpt2onnx.smaller.distill.distill import distill
from gpt2onnx.smaller.distill.run_folder import RunFolder
from gpt2onnx.smaller.prune.prune import prune
from gpt2onnx.smaller.trim.trim import TABLE, trim
from training.corpus import END_OF_TEXT, Corpus, load_corpus

# The bundled model's sizes are 4,096 tokens, 4 layers, 1,024 hidden units.
SIZES = 3072, 2048
CHOICES = {"inner": 768}, {"inner": 512}, {"layers": 3}
STUDENT_LAYERS = 2
EVERY = 8  # of the modules that it has learned from
SHARE, QUICK_SHARE = 0.1, 0.01  # of each held-out module
ROUNDS, QUICK_ROUNDS = 5, 1
PIECE = 32  # tokens that are read by themselves for KL
HEADER = (
    *("checkpoint", "weights, MB", "INT8 folder, MB", "step, ms", "prompt of 512, ms"),
    *("tokens of the text", "bits a byte", "KL on common tokens"),
)


@dataclass(frozen=True)
class Smaller:
    """A checkpoint by the command that makes it, without its texts."""

    command: str
    folder: Path

    def new_ids(self) -> Mapping[int, int]:
        """Its ids by the bundled model's."""
        file = self.folder / TABLE
        if not file.exists():
            return {index: index for index in range(4096)}
        return {int(old): new for old, new in json.loads(file.read_text()).items()}

    @property
    def megabytes(self) -> float:
        return (self.folder / "model.safetensors").stat().st_size / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE")
    parser.add_argument("--distill", type=int, metavar="STEPS", help="a student of so many steps")
    parser.add_argument("--folder", type=Path, help="where the checkpoints are kept")
    parser.add_argument("--quick", action="store_true", help="less text, one round of times")
    parser.add_argument("--threads", type=int, default=default_threads())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept = arguments.folder or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        made = list(checkpoints(kept, arguments.distill))
        exports = [
            Exported(
                each.folder, Path(folder, f"int8-{at}"), {"precision": "int8"}, arguments.threads
            )
            for at, each in enumerate(made)
        ]
        for _ in range(QUICK_ROUNDS if arguments.quick else ROUNDS):
            for exported in exports:
                exported.time()
        text = held_out_text(QUICK_SHARE if arguments.quick else SHARE)
        rows, tokens = rows_of(made, exports, text)
    shown = f"{table(HEADER, rows)}\n\n{circumstances(tokens, arguments.threads)}\n"
    print(shown)
    if arguments.write:
        replace(arguments.write, "smaller", shown, "benchmarks.smaller")


def checkpoints(folder: Path, steps: int | None) -> Iterator[Smaller]:
    """The original and what is made of it."""
    corpus = load_corpus()
    texts = [document.text for document in corpus.training[::EVERY]]
    original = Smaller("the bundled model", CHECKPOINT)
    trims = [trimmed(folder, size, texts) for size in SIZES]
    prunes = [pruned(folder, original, choice, texts) for choice in CHOICES]
    students = [distilled(folder, steps, corpus)] if steps else []
    both = pruned(folder, trims[0], CHOICES[0], texts)
    yield from (original, *trims, *prunes, *students, both)


def trimmed(folder: Path, size: int, texts: Sequence[str]) -> Smaller:
    made = Smaller(f"`trim --size {size}`", folder / f"trim-{size}")
    if not made.folder.exists():
        trim(CHECKPOINT, made.folder, texts, size=size)
    return made


def pruned(
    folder: Path, source: Smaller, choice: Mapping[str, int], texts: Sequence[str]
) -> Smaller:
    ((option, count),) = choice.items()
    command = f"`prune --{option} {count}`"
    is_original = source.folder == CHECKPOINT
    name = command if is_original else f"{source.command}, {command}"
    made = Smaller(name, folder / f"{source.folder.name}-{option}-{count}")
    if not made.folder.exists():
        prune(source.folder, made.folder, texts, **choice)
        if not is_original:
            (made.folder / TABLE).write_bytes((source.folder / TABLE).read_bytes())
    return made


def distilled(folder: Path, steps: int, corpus: Corpus) -> Smaller:
    command = f"`distill --layers {STUDENT_LAYERS} --steps {steps}`"
    made = Smaller(command, folder / f"distill-{STUDENT_LAYERS}-{steps}")
    if not made.folder.exists():
        texts, held_out = (
            [document.text for document in some] for some in (corpus.training, corpus.held_out)
        )
        with Bars() as bars:
            distill(
                CHECKPOINT,
                made.folder,
                layers=STUDENT_LAYERS,
                texts=texts,
                held_out=held_out,
                steps=steps,
                resume=RunFolder(made.folder).is_there,
                time_it=False,
                progress=bars,
            )
    return made


def held_out_text(share: float) -> str:
    """The beginning of each module, behind an end token."""
    modules = [path.read_text("utf-8") for path in held_out_modules()]
    return "".join(END_OF_TEXT + module[: int(len(module) * share)] for module in modules)


def rows_of(
    made: Sequence[Smaller], exports: Sequence[Exported], text: str
) -> tuple[list[list[str]], int]:
    """The table's rows, and the original's tokens of the text."""
    kept = set.intersection(*(set(each.new_ids()) for each in made))
    results, divergences = [], []
    for smaller, exported in zip(made, exports, strict=True):
        print(f"evaluating {smaller.command}", file=sys.stderr)
        results.append(evaluate(exported.model, text))
        divergences.append(divergence(smaller, exported, exports[0], text, kept))
    rows = map(cells, made, exports, results, divergences)
    return list(rows), results[0].tokens


def divergence(
    smaller: Smaller, exported: Exported, original: Exported, text: str, kept: set[int]
) -> float:
    """Mean KL from the original, in nats, over the tokens that all have."""
    new_ids, common = smaller.new_ids(), sorted(kept)
    agreement = Agreement()
    for piece in pieces(original.model.tokenizer.encode(text).ids, kept):
        ids = np.array([new_ids[index] for index in piece])
        expected, found = (
            np.concatenate([logits for _, logits in walk(each.model.decoder, read)])
            for each, read in ((original, np.array(piece)), (exported, ids))
        )
        agreement.add(expected[:, common], found[:, [new_ids[index] for index in common]])
    return agreement.kl_mean


def pieces(ids: Sequence[int], kept: set[int]) -> Iterator[Sequence[int]]:
    """Pieces of the text that are of common tokens alone."""
    for start in range(0, len(ids) - PIECE, PIECE):
        piece = ids[start : start + PIECE]
        if kept.issuperset(piece):
            yield piece


def cells(smaller: Smaller, exported: Exported, result: Evaluation, kl_mean: float) -> list[str]:
    return [
        smaller.command,
        f"{smaller.megabytes:.1f}",
        f"{exported.size / 1e6:.1f}",
        f"{exported.step_ms:.2f}",
        f"{exported.prompt_ms:.1f}",
        f"{result.tokens:,}",
        f"{result.bits_per_byte:.3f}",
        f"{kl_mean:.1e}" if kl_mean else "0",
    ]


if __name__ == "__main__":
    main()
