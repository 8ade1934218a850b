"""Train the bundled demo models on Python's standard library: a CPU and half an hour.

    python -m training [--seed 0] [--out gpt2onnx/demo]

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
import json
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from training.card import Data, Trained, card
from training.corpus import encode, load_corpus, train_tokenizer
from training.model import DRAFT, TARGET, Recipe, acceptance, measure
from training.training import Loss, distillation_loss, next_token_loss, train

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "gpt2onnx" / "demo"


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
    with tempfile.TemporaryDirectory(prefix=".training-", dir=args.out.parent) as made:
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
