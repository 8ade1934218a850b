"""Train the bundled models on Python's standard library: a CPU and two hours.

    python -m training [--draft] [--seed 0] [--out gpt2onnx/demo]

The recipe:

* Corpus: the sources of the standard library of the Python that runs this script, and the texts
  behind pydoc's topics. Tests and files that are mostly tables are left out. One module in twenty,
  chosen by a hash of its name, is held out: neither the tokenizer nor the models see it, and
  `held_out.txt` lists it.
* Tokenizer: byte-level BPE, 4,096 tokens, GPT-2's own pre-tokenizer. `<|endoftext|>` stands before
  every document.
* Target: GPT-2 with 4 layers of 4 heads, width 256. Next-token loss, AdamW, warm-up and cosine,
  bf16 autocast.
* Draft, for speculative decoding: GPT-2 with 2 layers of 2 heads, width 128, a student of the
  target's by `gpt2onnx distill`'s own code (draft.py). It learns what the target writes greedily
  behind pieces of the corpus. --draft makes it alone, of the target that stands in --out.
* Four steps in five of the target see windows of 256 tokens, which are cheap; the last fifth sees
  windows of 1,024. A short window is placed at position 0, 256, 512 or 768 at random, so that every
  position embedding learns from the first step.

The number of steps, not the clock, decides the end, and every random choice comes from `--seed`.
Everything is written to a temporary folder beside the output, and moved into place at the end.

Needs torch, transformers and tokenizers. Downloads nothing. Knows nothing of ONNX.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from training.card import Trained, draft_card, target_card
from training.corpus import Corpus, encode, load_corpus, train_tokenizer
from training.draft import DRAFT, make_draft
from training.model import TARGET, Recipe, measure
from training.training import train

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "gpt2onnx" / "demo"


def make_target(made: Path, corpus: Corpus, recipe: Recipe, seed: int) -> None:
    """`model/` with its card, and `held_out.txt`, under `made`."""
    tokenizer = train_tokenizer([d.text for d in corpus.training])
    stream = np.concatenate(encode(tokenizer, corpus.training))
    held_out = encode(tokenizer, corpus.held_out)
    print(
        f"{len(corpus.training)} documents, {len(stream):,} tokens;"
        f" {len(held_out)} modules, {sum(map(len, held_out)):,} tokens held out",
        flush=True,
    )
    model, log = train(recipe, stream, held_out, seed)
    saved = save(model, tokenizer, made / "model")
    measured = measure(saved, held_out)
    print(f"target: held-out perplexity {measured.perplexity:.2f}", flush=True)
    trained = Trained(recipe, saved, log, measured)
    write(made / "model" / "README.md", target_card(trained, corpus, len(stream), seed))
    write(made / "held_out.txt", "".join(f"{d.name}\n" for d in corpus.held_out))


def make_draft_and_card(target: Path, out: Path, corpus: Corpus, steps: int, seed: int) -> None:
    """`out`, the draft of the checkpoint `target`, with its card."""
    started = time.monotonic()
    made = make_draft(target, out, corpus, seed, steps)
    minutes = (time.monotonic() - started) / 60
    print(f"draft: {made}", flush=True)
    model = GPT2LMHeadModel.from_pretrained(out)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    tokens = sum(map(len, encode(tokenizer, corpus.training)))
    card = draft_card(made, model.num_parameters(), minutes, corpus, tokens, seed)
    write(out / "README.md", card)


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


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def move_into_place(made: Path, out: Path) -> None:
    """Replace what an earlier run wrote, and nothing else that stands in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for new in sorted(made.glob("[!.]*")):
        place = out / new.name
        if place.exists():
            place.replace(made / f".old-{new.name}")
        new.replace(place)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0, help="of every random choice")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--steps", type=int, default=TARGET.steps, help="of the target")
    which.add_argument("--draft", action="store_true", help="make the draft alone")
    parser.add_argument("--draft-steps", type=int, default=DRAFT["steps"], help="of the draft")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write to")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(args.threads)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    corpus = load_corpus()
    with tempfile.TemporaryDirectory(prefix=".training-", dir=args.out.parent) as folder:
        made = Path(folder)
        write(made / ".gitignore", "*\n")
        try:
            if not args.draft:
                make_target(made, corpus, replace(TARGET, steps=args.steps), args.seed)
            target = (args.out if args.draft else made) / "model"
            make_draft_and_card(target, made / "draft", corpus, args.draft_steps, args.seed)
        except KeyboardInterrupt:
            print("\ninterrupted: all training is lost; nothing was written", file=sys.stderr)
            return 130
        written = ", ".join(path.name for path in sorted(made.glob("[!.]*")))
        move_into_place(made, args.out)
    print(f"wrote {written} to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
