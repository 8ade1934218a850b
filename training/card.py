"""The card of a demo model: what it is, what it read, how it was made."""

from __future__ import annotations

import math
import platform
import sys
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from training.corpus import END_OF_TEXT, VOCAB_SIZE, Corpus, text_bytes
from training.model import POSITIONS, Measure, Recipe
from training.training import LONG_SHARE, SHORT_WINDOW, TOKENS_PER_STEP, Log


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
    command = " ".join(["python", "-m", "training", *sys.argv[1:]])
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

{recipe.objective}
AdamW, peak learning rate {recipe.learning_rate}, warm-up and cosine, weight decay 0.1. Windows of
{SHORT_WINDOW} tokens, and of {POSITIONS:,} in the last {LONG_SHARE:.0%} of the steps.

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
