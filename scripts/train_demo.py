#!/usr/bin/env python3
"""Train the bundled demo models on Python's standard library: a CPU and half an hour.

The recipe:

* Corpus: the sources of the standard library of the Python that runs this script, and the texts
  behind pydoc's topics. Tests and files that are mostly tables are left out. One module in twenty,
  chosen by a hash of its name, is held out: neither the tokenizer nor the models see it, and
  `held_out.txt` lists it.
* Tokenizer: byte-level BPE, 4,096 tokens, GPT-2's own pre-tokenizer. `<|endoftext|>` stands before
  every document.
* Target: GPT-2 with 4 layers of 4 heads, width 256. Next-token loss, AdamW, warm-up and cosine,
  bf16 autocast.
* Draft, for speculative decoding: GPT-2 with 2 layers of 1 head, width 64, distilled from the
  target: its loss is the cross-entropy against the target's distribution, because a proposal is
  accepted as far as the two distributions overlap.
* Four steps in five see windows of 256 tokens, which are cheap; the last fifth sees windows of
  1,024. A short window is placed at position 0, 256, 512 or 768 at random, so that every position
  embedding learns from the first step.

The number of steps, not the clock, decides the end, and every random choice comes from `--seed`.
Everything is written to a temporary folder beside the output, and moved into place at the end.

Needs torch, transformers and tokenizers. Downloads nothing. Knows nothing of ONNX.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

END_OF_TEXT = "<|endoftext|>"
VOCAB_SIZE = 4096
POSITIONS = 1024
SHORT_WINDOW = 256
TOKENS_PER_STEP = 4096
LONG_SHARE = 0.2  # of the steps, at the end, on windows of POSITIONS tokens
HELD_OUT_ONE_IN = 20
DEFAULT_OUT = Path(__file__).resolve().parent.parent / "gpt2onnx" / "demo"

SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "__pycache__", "__phello__"}
SKIPPED_MODULES = {
    "html.entities",  # tables: nothing to learn but numbers and names
    "locale",
    "pydoc_data.topics",  # its texts are taken instead
    "re._casefix",
    "sitecustomize",  # belongs to the machine, not to Python
    "stringprep",
    "usercustomize",
}
CHARMAP_MARKS = ("decoding_table", "decoding_map")  # names in the generated part of encodings/


# --- corpus ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Document:
    name: str  # of a module, dotted, or of a pydoc topic
    text: str


@dataclass(frozen=True)
class Corpus:
    training: list[Document]
    held_out: list[Document]


def module_name(path: Path) -> str:
    """`json/__init__.py` -> `json`, `json/tool.py` -> `json.tool`."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_wanted(path: Path) -> bool:
    # A folder whose name is no identifier (config-3.11-x86_64-linux-gnu) holds no modules but this
    # build's settings.
    folders = path.parts[:-1]
    if any(name in SKIPPED_FOLDERS or not name.isidentifier() for name in folders):
        return False
    return module_name(path) not in SKIPPED_MODULES and not path.name.startswith("_sysconfigdata")


def is_charmap(path: Path, text: str) -> bool:
    return path.parts[0] == "encodings" and any(mark in text for mark in CHARMAP_MARKS)


def library_modules() -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(path.relative_to(root) for path in root.rglob("*.py")):
        if is_wanted(path):
            text = (root / path).read_text(encoding="utf-8")
            if text.strip() and not is_charmap(path, text):
                yield Document(module_name(path), text)


def pydoc_topics() -> Iterator[Document]:
    for name in sorted(topics):
        yield Document(f"topic {name}", topics[name])


def is_held_out(name: str) -> bool:
    """One name in twenty, always the same: Python's own hash() changes with the process."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


def load_corpus() -> Corpus:
    modules = list(library_modules())
    return Corpus(
        training=[d for d in modules if not is_held_out(d.name)] + list(pydoc_topics()),
        held_out=[d for d in modules if is_held_out(d.name)],
    )


# --- tokenizer ------------------------------------------------------------------------------------


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE as GPT-2's own: same pre-tokenizer, and END_OF_TEXT is the last token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([END_OF_TEXT])
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise ValueError(f"expected {VOCAB_SIZE} tokens, BPE found {tokenizer.get_vocab_size()}")
    return tokenizer


def encode(tokenizer: Tokenizer, documents: list[Document]) -> list[np.ndarray]:
    """One int64 [tokens] a document, END_OF_TEXT first."""
    start = tokenizer.token_to_id(END_OF_TEXT)
    encodings = tokenizer.encode_batch([d.text for d in documents])
    return [np.array([start, *encoding.ids], dtype=np.int64) for encoding in encodings]


# --- models ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """What differs between the target and the draft, and what their cards say of it.

    Every head is 64 wide, as in every GPT-2.
    """

    name: str
    purpose: str
    objective: str
    width: int
    layers: int
    heads: int
    steps: int
    learning_rate: float


TARGET = Recipe(
    name="target",
    purpose="A small GPT-2 that has read Python's standard library, so that everything in\n"
    "gpt2onnx runs with no download.",
    objective="Next-token cross-entropy.",
    width=256,
    layers=4,
    heads=4,
    steps=3600,
    learning_rate=1.5e-3,
)
DRAFT = Recipe(
    name="draft",
    purpose="A tenth of the target in `../model`, with the same tokenizer: it proposes tokens for\n"
    "speculative decoding.",
    objective="Cross-entropy against the target's distribution, whose entropy is its floor.",
    width=64,
    layers=2,
    heads=1,
    steps=2000,
    learning_rate=4e-3,
)


def build_model(recipe: Recipe) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_positions=POSITIONS,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=VOCAB_SIZE - 1,
        eos_token_id=VOCAB_SIZE - 1,
    )
    model = GPT2LMHeadModel(config)
    for block in model.transformer.h:
        block.mlp.act = torch.nn.GELU(approximate="tanh")  # gelu_new, in one kernel
    return model


def forward(model: GPT2LMHeadModel, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """[batch, window], [batch] -> logits, float32 [batch * window, vocab]."""
    positions = offsets[:, None] + torch.arange(ids.shape[1])
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    return logits.float().view(-1, VOCAB_SIZE)


# --- training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    ids: torch.Tensor  # [batch, window + 1]: each token but the last predicts the next
    offsets: torch.Tensor  # [batch]: the position of each window's first token

    @property
    def inputs(self) -> torch.Tensor:
        return self.ids[:, :-1]

    @property
    def targets(self) -> torch.Tensor:
        return self.ids[:, 1:].reshape(-1)


def batches(stream: np.ndarray, window: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Endless epochs: each cuts the stream at a new phase and shuffles the windows."""
    rows = TOKENS_PER_STEP // window
    while True:
        starts = np.arange(rng.integers(window), len(stream) - window, window)
        rng.shuffle(starts)
        for first in range(0, len(starts) - rows + 1, rows):
            ids = stream[starts[first : first + rows, None] + np.arange(window + 1)]
            offsets = window * rng.integers(POSITIONS // window, size=rows)
            yield Batch(torch.from_numpy(ids), torch.from_numpy(offsets))


Loss = Callable[[GPT2LMHeadModel, Batch], torch.Tensor]


def next_token_loss(model: GPT2LMHeadModel, batch: Batch) -> torch.Tensor:
    return cross_entropy(forward(model, batch.inputs, batch.offsets), batch.targets)


def distillation_loss(
    model: GPT2LMHeadModel, batch: Batch, *, teacher: GPT2LMHeadModel
) -> torch.Tensor:
    with torch.no_grad():
        wanted = forward(teacher, batch.inputs, batch.offsets).softmax(-1)
    return cross_entropy(forward(model, batch.inputs, batch.offsets), wanted)


def make_optimizer(model: GPT2LMHeadModel, learning_rate: float) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over one step in thirty, then a cosine down to 2 %."""
    warmup = max(1, steps // 30)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def make_schedule(optimizer: torch.optim.AdamW, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: learning_rate_factor(n, steps))


@dataclass
class Log:
    """Prints progress, and keeps the card's table: (step, training loss, held-out loss)."""

    steps: int
    rows: list[tuple[int, float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # since the last row
    started: float = field(default_factory=time.monotonic)
    minutes: float = 0.0

    def progress(self, step: int, loss: float) -> None:
        self.losses.append(loss)
        seconds = time.monotonic() - self.started
        self.minutes = seconds / 60
        if step % max(1, self.steps // 80) == 0 or step == self.steps:
            rate = step * TOKENS_PER_STEP / seconds
            left = self.minutes / step * (self.steps - step)
            print(
                f"step {step:5}/{self.steps}  loss {loss:.3f}  {rate:6.0f} tokens/s"
                f"  {left:4.1f} min left",
                flush=True,
            )

    def measured(self, step: int, held_out_loss: float) -> None:
        self.rows.append((step, float(np.mean(self.losses)), held_out_loss))
        self.losses.clear()
        print(f"step {step:5}/{self.steps}  held-out loss {held_out_loss:.3f}", flush=True)


def train(
    recipe: Recipe, stream: np.ndarray, held_out: list[np.ndarray], loss_of: Loss, seed: int
) -> tuple[GPT2LMHeadModel, Log]:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build_model(recipe)
    optimizer = make_optimizer(model, recipe.learning_rate)
    schedule = make_schedule(optimizer, recipe.steps)
    log = Log(recipe.steps)
    long_steps = round(LONG_SHARE * recipe.steps)
    phases = [(recipe.steps - long_steps, SHORT_WINDOW, "eager"), (long_steps, POSITIONS, "sdpa")]
    step = 0
    for steps, window, attention in phases:
        model.set_attn_implementation(attention)  # the faster one for this window
        for batch in islice(batches(stream, window, rng), steps):
            step += 1
            log.progress(step, take_step(model, optimizer, loss_of(model, batch)))
            schedule.step()
            if step % max(1, recipe.steps // 8) == 0 or step == recipe.steps:
                log.measured(step, measure(model, held_out).loss)
    return model, log


def take_step(
    model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, loss: torch.Tensor
) -> float:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


# --- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    nats: float
    tokens: int

    @property
    def loss(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss)


def pieces(documents: list[np.ndarray]) -> Iterator[torch.Tensor]:
    """Consecutive pieces that share one token, [1, <= POSITIONS + 1]: each is predicted once."""
    for ids in documents:
        for start in range(0, len(ids) - 1, POSITIONS):
            yield torch.from_numpy(ids[None, start : start + POSITIONS + 1])


def piece_logits(model: GPT2LMHeadModel, ids: torch.Tensor) -> torch.Tensor:
    """[1, n + 1] -> float32 [n, vocab], without autocast."""
    with torch.no_grad():
        return model(input_ids=ids[:, :-1], use_cache=False).logits[0]


def measure(model: GPT2LMHeadModel, documents: list[np.ndarray]) -> Measure:
    nats, tokens = 0.0, 0
    for ids in pieces(documents):
        targets = ids[0, 1:]
        nats += cross_entropy(piece_logits(model, ids), targets, reduction="sum").item()
        tokens += len(targets)
    return Measure(nats, tokens)


def acceptance(
    target: GPT2LMHeadModel, draft: GPT2LMHeadModel, documents: list[np.ndarray]
) -> float:
    """The chance that a sampled proposal is accepted: sum(min(p, q)) (arXiv 2211.17192)."""
    total, tokens = 0.0, 0
    for ids in pieces(documents):
        p, q = piece_logits(target, ids).softmax(-1), piece_logits(draft, ids).softmax(-1)
        total += torch.minimum(p, q).sum().item()
        tokens += len(p)
    return total / tokens


# --- writing --------------------------------------------------------------------------------------


def save(model: GPT2LMHeadModel, tokenizer: Tokenizer, folder: Path) -> GPT2LMHeadModel:
    """Write the checkpoint in float16; returns it as read back, in float32."""
    model.half().save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["torch_dtype"] = config.pop("dtype", "float16")  # the name that every transformers reads
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner alone
    return GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()


@dataclass(frozen=True)
class Data:
    """The corpus, tokenized: what both models learn from and are measured on."""

    corpus: Corpus
    tokenizer: Tokenizer
    stream: np.ndarray  # [tokens], the training documents end to end
    held_out: list[np.ndarray]


@dataclass(frozen=True)
class Trained:
    """A model and what its card tells of it."""

    recipe: Recipe
    model: GPT2LMHeadModel  # as read back from its folder
    log: Log
    measured: Measure


def card(trained: Trained, data: Data, seed: int, extra: str = "") -> str:
    recipe, measured, python = trained.recipe, trained.measured, platform.python_version()
    tokens_seen = recipe.steps * TOKENS_PER_STEP
    bits_per_byte = measured.nats / math.log(2) / text_bytes(data.corpus.held_out)
    rows = "\n".join(f"| {n:,} | {a:.3f} | {b:.3f} |" for n, a, b in trained.log.rows)
    command = " ".join(["python", "scripts/train_demo.py", *sys.argv[1:]])
    return f"""\
# gpt2onnx demo: {recipe.name}

{recipe.purpose}

| | |
| --- | --- |
| architecture | GPT-2: {recipe.layers} layers, heads: {recipe.heads}, width {recipe.width} |
| positions, vocabulary | {POSITIONS:,}, {VOCAB_SIZE:,} |
| parameters | {trained.model.num_parameters():,}, stored as float16 |
| training | {recipe.steps:,} steps of {TOKENS_PER_STEP:,} tokens = {tokens_seen:,} tokens |
| time | {trained.log.minutes:.0f} minutes on {torch.get_num_threads()} CPU threads |
| held-out perplexity | **{measured.perplexity:.2f}** over {measured.tokens:,} tokens |
| held-out bits per byte | {bits_per_byte:.3f} |
{extra}
## Data

The sources of Python {python}'s standard library, and the texts of pydoc's topics:
{len(data.corpus.training):,} documents, {text_bytes(data.corpus.training):,} bytes, \
{len(data.stream):,} tokens. Left out: tests,
site-packages, and files that are tables (charmaps, `html.entities`, `locale`, `stringprep`, ...).
Held out: the {len(data.held_out)} modules named in `../held_out.txt`, chosen by the SHA-256 of the
name; neither the tokenizer nor the models saw them.

Perplexity is measured on the saved float16 weights, computed in float32. Each held-out module is
encoded as `{END_OF_TEXT}` and its source, and cut into pieces of {POSITIONS + 1:,} tokens that
share their boundary token, so that every token of the source is predicted once, with at most
{POSITIONS:,} tokens of context.

## Training log

{recipe.objective} AdamW, peak learning rate {recipe.learning_rate}, warm-up and cosine, weight
decay 0.1. Windows of {SHORT_WINDOW} tokens, and of {POSITIONS:,} in the last {LONG_SHARE:.0%} \
of the steps.

| step | training loss | held-out loss |
| ---: | ---: | ---: |
{rows}

Both in nats. Training loss is the mean since the row above. Held-out loss is next-token
cross-entropy with up to {POSITIONS:,} tokens of context: where the windows grow, it drops.

Made with

    {command}

seed {seed}, Python {python}, torch {torch.__version__}, transformers {transformers.__version__}.

## Terms and limits

The weights are distributed under the project's licence, Apache-2.0. The text they learned from,
Python's standard library, is under the PSF License Agreement, and a model can repeat pieces of what
it read.

It writes lines that look like Python, and knows nothing else. It is there to try and to test
gpt2onnx, not to write programs.
"""


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def text_bytes(documents: list[Document]) -> int:
    return sum(len(d.text.encode()) for d in documents)


def move_into_place(made: Path, out: Path) -> None:
    """Replace what an earlier run wrote, and nothing else that stands in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for new in sorted(made.glob("[!.]*")):
        place = out / new.name
        if place.exists():
            place.replace(made / f".old-{new.name}")
        new.replace(place)


# --- the run --------------------------------------------------------------------------------------


def prepare() -> Data:
    corpus = load_corpus()
    tokenizer = train_tokenizer([d.text for d in corpus.training])
    stream = np.concatenate(encode(tokenizer, corpus.training))
    held_out = encode(tokenizer, corpus.held_out)
    print(
        f"{len(corpus.training)} documents, {len(stream):,} tokens;"
        f" {len(held_out)} modules, {sum(map(len, held_out)):,} tokens held out",
        flush=True,
    )
    return Data(corpus, tokenizer, stream, held_out)


def make_model(recipe: Recipe, data: Data, loss_of: Loss, seed: int, folder: Path) -> Trained:
    """Train, save, and measure what was saved."""
    model, log = train(recipe, data.stream, data.held_out, loss_of, seed)
    saved = save(model, data.tokenizer, folder)
    measured = measure(saved, data.held_out)
    print(f"{folder.name}: held-out perplexity {measured.perplexity:.2f}", flush=True)
    return Trained(recipe, saved, log, measured)


def make_everything(made: Path, recipes: tuple[Recipe, Recipe], seed: int) -> None:
    """`held_out.txt`, `model/` and `draft/`, each with its card, under `made`."""
    data = prepare()
    write(made / "held_out.txt", "".join(f"{d.name}\n" for d in data.corpus.held_out))

    target = make_model(recipes[0], data, next_token_loss, seed, made / "model")
    write(made / "model" / "README.md", card(target, data, seed))

    distil = partial(distillation_loss, teacher=target.model)
    draft = make_model(recipes[1], data, distil, seed, made / "draft")
    accepted = acceptance(target.model, draft.model, data.held_out)
    print(f"draft: acceptance {accepted:.3f}", flush=True)
    extra = f"| acceptance at temperature 1 | {accepted:.3f}: the mean overlap with the target |\n"
    write(made / "draft" / "README.md", card(draft, data, seed, extra))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0, help="of every random choice")
    parser.add_argument("--steps", type=int, default=TARGET.steps, help="of the target")
    parser.add_argument("--draft-steps", type=int, default=DRAFT.steps, help="of the draft")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write to")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(args.threads)
    target, draft = replace(TARGET, steps=args.steps), replace(DRAFT, steps=args.draft_steps)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".train_demo-", dir=args.out.parent) as made:
        write(Path(made) / ".gitignore", "*\n")
        try:
            make_everything(Path(made), (target, draft), args.seed)
        except KeyboardInterrupt:
            print("\ninterrupted: all training is lost; nothing was written", file=sys.stderr)
            return 130
        move_into_place(Path(made), args.out)
    print(f"wrote held_out.txt, model and draft to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
