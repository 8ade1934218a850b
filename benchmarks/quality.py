"""What each precision costs in quality, on held-out text, and what it brings in size and time.

    python -m benchmarks.quality [CHECKPOINT] [--table NAME] [--write FILE] [--quick]

Exports a checkpoint that has the bundled model's tokenizer (by default that model) in every
precision and graph, evaluates each beside the checkpoint in PyTorch, and prints a table in
Markdown; --write puts it into a file, between the markers of --table. The text is the same share of
every held-out module of the running Python's standard library, from its beginning and behind an end
token, as in training.

Times are medians; the models take turns, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import onnxruntime
import tokenizers

import gpt2onnx
from benchmarks.markdown_table import table as markdown_table
from gpt2onnx.demo import CHECKPOINT, HELD_OUT
from gpt2onnx.evaluation import Evaluation, evaluate
from gpt2onnx.reference import open_reference
from gpt2onnx.runtime.machine.processor import processor
from gpt2onnx.runtime.machine.threads import default_threads
from gpt2onnx.runtime.profiling.work import Work

# Options of gpt2onnx.export; fp32, which the times are compared with, comes first.
EXPORTS: list[dict[str, Any]] = [
    {"precision": "fp32"},
    {"precision": "fp16"},
    {"precision": "int8"},
    {"precision": "int8-dynamic"},
    {"precision": "int4"},
    {"precision": "fp32", "kv_cache": "int8"},
    {"precision": "int8", "kv_cache": "int8"},
    {"precision": "int8-dynamic", "kv_cache": "int8"},
    {"precision": "int4", "kv_cache": "int8"},
    {"precision": "fp32", "graph": "portable"},
    {"precision": "int8", "graph": "portable"},
]
TOKENS, QUICK_TOKENS = 20_480, 2_048
ROUNDS, QUICK_ROUNDS = 5, 1
PROMPT, CONTEXT, STEPS = 512, 512, 16
HEADER = (
    *("precision", "graph", "KV cache", "MB", "perplexity", "against fp32", "KL, mean", "KL, 99 %"),
    *("top token agrees", "largest difference", f"prompt of {PROMPT}, ms", "of fp32's"),
    *(f"step at {CONTEXT}, ms", "of fp32's"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, default=CHECKPOINT)
    parser.add_argument("--table", default="demo", help="whose markers --write looks for")
    parser.add_argument("--write", type=Path, metavar="FILE")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--quick", action="store_true", help="fewer tokens, one round of times")
    arguments = parser.parse_args()
    tokens = arguments.tokens or (QUICK_TOKENS if arguments.quick else TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        exports = [
            Exported(arguments.checkpoint, Path(folder, str(number)), options, arguments.threads)
            for number, options in enumerate(EXPORTS)
        ]
        for _ in range(QUICK_ROUNDS if arguments.quick else ROUNDS):
            for exported in exports:
                exported.time()
        results = evaluated(exports, arguments.checkpoint, tokens)
    text = f"{table(exports, results)}\n\n{circumstances(results[0].tokens, arguments.threads)}\n"
    print(text)
    if arguments.write:
        replace(arguments.write, arguments.table, text)


class Exported:
    """A checkpoint's export by some options: the open model, its size and its times."""

    def __init__(self, checkpoint: Path, out: Path, options: dict[str, Any], threads: int) -> None:
        self.options = {"graph": "fused", "kv_cache": "float", **options}
        self.size = gpt2onnx.export(checkpoint, out, verify=False, **self.options).size
        # What everybody has, whether or not gpt2onnx-kernels are here.
        self.model = gpt2onnx.load(
            out, provider="cpu", threads=threads, startup_cache=False, graph="onnx"
        )
        self.work = Work(PROMPT, CONTEXT, STEPS)
        self.prompts: list[float] = []
        self.steps: list[float] = []

    def time(self) -> None:
        self.prompts += self.work.prompts(self.model.decoder)[1:]
        self.steps += self.work.decode(self.model.decoder)[1:]

    @property
    def prompt_ms(self) -> float:
        return 1e3 * statistics.median(self.prompts)

    @property
    def step_ms(self) -> float:
        return 1e3 * statistics.median(self.steps)


def evaluated(exports: list[Exported], checkpoint: Path, tokens: int) -> list[Evaluation]:
    reference = open_reference(checkpoint)
    text = held_out_ids(exports[0].model.tokenizer, tokens)
    results = []
    for exported in exports:
        print(f"evaluating {exported.options}", file=sys.stderr)
        results.append(evaluate(exported.model, text, reference=reference, max_tokens=tokens))
    return results


def held_out_ids(tokenizer: tokenizers.Tokenizer, tokens: int) -> list[int]:
    """The first tokens of each module, the same share of all, at least so many altogether."""
    end = tokenizer.token_to_id("<|endoftext|>")
    modules = [[end, *tokenizer.encode(path.read_text("utf-8")).ids] for path in held_out_modules()]
    total = sum(map(len, modules))
    if total <= tokens:
        raise SystemExit(f"--tokens {tokens}: the held-out modules have {total} here")
    # One more a module makes up for what the shares are rounded down by.
    shares = (module[: len(module) * tokens // total + 2] for module in modules)
    return [token for share in shares for token in share]


def held_out_modules() -> list[Path]:
    """The source of each module that this Python has."""
    library = Path(sysconfig.get_paths()["stdlib"])
    names = (library.joinpath(*name.split(".")) for name in HELD_OUT.read_text().split())
    files = [file for name in names for file in (name.with_suffix(".py"), name / "__init__.py")]
    return [file for file in files if file.is_file()]


def table(exports: list[Exported], results: list[Evaluation]) -> str:
    pairs = zip(exports, results, strict=True)
    return markdown_table(HEADER, (cells(exports[0], *pair) for pair in pairs))


def cells(fp32: Exported, exported: Exported, result: Evaluation) -> list[str]:
    found = result.figures()
    change = result.perplexity / found["reference_perplexity"] - 1
    change = round(change, 4) + 0.0  # not -0.00 %
    return [
        *(str(exported.options[name]) for name in ("precision", "graph", "kv_cache")),
        f"{exported.size / 1e6:.1f}",
        f"{result.perplexity:.3f}",
        f"{change:+.2%}",
        f"{found['kl_mean']:.1e}",
        f"{found['kl_p99']:.1e}",
        f"{found['top1_agreement']:.2%}",
        f"{found['max_logit_difference']:.2g}",
        f"{exported.prompt_ms:.1f}",
        f"{exported.prompt_ms / fp32.prompt_ms:.2f}",
        f"{exported.step_ms:.2f}",
        f"{exported.step_ms / fp32.step_ms:.2f}",
    ]


def circumstances(tokens: int, threads: int) -> str:
    return (
        f"{tokens:,} tokens of the {len(held_out_modules())} held-out modules of Python "
        f"{platform.python_version()}; onnxruntime {onnxruntime.__version__}, "
        f"{processor().model}, {threads} thread{'s' * (threads > 1)}."
    )


def replace(file: Path, name: str, text: str, by: str = "benchmarks.quality") -> None:
    """Put a text between a file's two markers of that name."""
    begin, end = f"<!-- {name}: written by {by} -->\n", f"<!-- {name}: end -->"
    before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise SystemExit(f"{file}: expected the lines {begin.strip()} and {end}")
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
