"""The cards of the bundled models: what they are, what they read, how they were made."""

from __future__ import annotations

import math
import platform
import sys
from dataclasses import dataclass

import torch
import transformers
from transformers import GPT2LMHeadModel

from gpt2onnx.smaller.distill.distill import Distilled
from training.corpus import END_OF_TEXT, VOCAB_SIZE, Corpus, text_bytes
from training.draft import DRAFT
from training.model import POSITIONS, Measure, Recipe
from training.training import LONG_SHARE, SHORT_WINDOW, TOKENS_PER_STEP, Log


@dataclass(frozen=True)
class Trained:
    """The target and what its card tells of it."""

    recipe: Recipe
    model: GPT2LMHeadModel  # as read back from its folder
    log: Log
    measured: Measure


def target_card(trained: Trained, corpus: Corpus, corpus_tokens: int, seed: int) -> str:
    recipe, measured = trained.recipe, trained.measured
    tokens_seen = recipe.steps * TOKENS_PER_STEP
    bits_per_byte = measured.nats / math.log(2) / text_bytes(corpus.held_out)
    rows = "\n".join(f"| {n:,} | {a:.3f} | {b:.3f} |" for n, a, b in trained.log.rows)
    return f"""\
# gpt2onnx demo: target

A small GPT-2 that has read Python's standard library, so that everything in
gpt2onnx runs with no download.

| | |
| --- | --- |
| architecture | GPT-2: {recipe.layers} layers, heads: {recipe.heads}, width {recipe.width} |
| positions, vocabulary | {POSITIONS:,}, {VOCAB_SIZE:,} |
| parameters | {trained.model.num_parameters():,}, stored as float16 |
| training | {recipe.steps:,} steps of {TOKENS_PER_STEP:,} tokens = {tokens_seen:,} tokens |
| time | {trained.log.minutes:.0f} minutes on {torch.get_num_threads()} CPU threads |
| held-out perplexity | **{measured.perplexity:.2f}** over {measured.tokens:,} tokens |
| held-out bits per byte | {bits_per_byte:.3f} |

{data_part(corpus, corpus_tokens)}
Perplexity is measured on the saved float16 weights, computed in float32. Each held-out module is
encoded as `{END_OF_TEXT}` and its source, and cut into pieces of {POSITIONS + 1:,} tokens that
share their boundary token, so that every token of the source is predicted once, with at most
{POSITIONS:,} tokens of context.

## Training log

Next-token cross-entropy.
AdamW, peak learning rate {recipe.learning_rate}, warm-up and cosine, weight decay 0.1. Windows of
{SHORT_WINDOW} tokens, and of {POSITIONS:,} in the last {LONG_SHARE:.0%} of the steps.

| step | training loss | held-out loss |
| ---: | ---: | ---: |
{rows}

Both in nats. Training loss is the mean since the row above. Held-out loss is next-token
cross-entropy with up to {POSITIONS:,} tokens of context: where the windows grow, it drops.

{end_part(seed)}"""


def draft_card(
    made: Distilled, parameters: int, minutes: float, corpus: Corpus, corpus_tokens: int, seed: int
) -> str:
    found, threads = made.worth.measure, torch.get_num_threads()
    samples, rate = DRAFT["samples"], DRAFT["learning_rate"]
    return f"""\
# gpt2onnx demo: draft

A quarter of the target in `../model`, with the same tokenizer: it proposes tokens for
speculative decoding.

| | |
| --- | --- |
| architecture | GPT-2: {DRAFT["layers"]} layers, heads: {DRAFT["width"] // 64}, width \
{DRAFT["width"]} |
| positions, vocabulary | {POSITIONS:,}, {VOCAB_SIZE:,} |
| parameters | {parameters:,}, stored as float16 |
| training | {made.steps:,} steps of {TOKENS_PER_STEP:,} tokens; this is step {made.best_step:,} |
| time | {minutes:.0f} minutes on {threads} CPU threads, the target's writing included |
| foreseen of the target's greedy tokens | **{found.acceptance:.1%}** of {found.tokens:,} |
| KL from the target | {found.kl:.3f} nats a token, on the same tokens |

{data_part(corpus, corpus_tokens)}
## How it learned

A draft for greedy decoding is to foresee what its target writes. So the target wrote
{samples:,} texts of 257 tokens, each behind a piece of the training documents of up to 128: its
most likely tokens, one after the other. The draft learned from those alone, by their cross-entropy;
it began with layers of the target, narrowed. It is measured on what the target writes behind
pieces of the held-out modules. AdamW, peak learning rate {rate}, warm-up and cosine, weight decay
0.1.

It is a draft, and no model for itself: of what people wrote it knows little. `gpt2onnx distill`
makes such a student of any GPT-2 (docs/distill.md).

{end_part(seed)}"""


def data_part(corpus: Corpus, tokens: int) -> str:
    python, size = platform.python_version(), text_bytes(corpus.training)
    documents, modules = len(corpus.training), len(corpus.held_out)
    return f"""\
## Data

The sources of Python {python}'s standard library, and the texts of pydoc's topics:
{documents:,} documents, {size:,} bytes, {tokens:,} tokens. Left out: tests,
site-packages, and files that are tables (charmaps, `html.entities`, `locale`, `stringprep`, ...).
Held out: the {modules} modules named in `../held_out.txt`, chosen by the SHA-256 of the
name; neither the tokenizer nor the models saw them.
"""


def end_part(seed: int) -> str:
    command = " ".join(["python", "-m", "training", *sys.argv[1:]])
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"""\
Made with

    {command}

seed {seed}, Python {platform.python_version()}, {versions}.

## Terms and limits

The weights are distributed under the project's licence, Apache-2.0. The text they learned from,
Python's standard library, is under the PSF License Agreement, and a model can repeat pieces of what
it read.

It writes lines that look like Python, and knows nothing else. It is there to try and to test
gpt2onnx, not to write programs.
"""
