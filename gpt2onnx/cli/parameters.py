"""GenerationParams as options: one a field, by the field's own name.

Knows how a value is written on a command line; what it may be, GenerationParams says.
"""

from __future__ import annotations

import argparse
from typing import Any

from gpt2onnx.cli.parser import Pairs, Parser


def _ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected token ids such as 1,2, got {text!r}") from None


def _words(text: str) -> list[list[int]]:
    return [_ids(word) for word in text.split(";")]


def _bias(text: str) -> tuple[int, float]:
    token, _, bias = text.partition("=")
    try:
        return int(token), float(bias)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected ID=X such as 50256=-5, got {text!r}") from None


# How a kind of value is written.
FLAG = {"action": argparse.BooleanOptionalAction}
INTEGER = {"type": int, "metavar": "N"}
NUMBER = {"type": float, "metavar": "X"}
CHOICE = {"metavar": "NAME"}
TEXTS = {"action": "append", "metavar": "TEXT"}
TOKENS = {"action": "extend", "type": _ids, "metavar": "ID,ID"}
WORDS = {"action": "extend", "type": _words, "metavar": "ID,ID;ID"}
BIASES = {"action": Pairs, "type": _bias, "metavar": "ID=X"}

# All fields but prefix_allowed_tokens_fn: a function has no option.
GROUPS: dict[str, dict[str, tuple[dict[str, Any], str]]] = {
    "length": {
        "max_new_tokens": (INTEGER, "write at most this many tokens (default: 128)"),
        "max_length": (INTEGER, "the same, the prompt's tokens counted in"),
        "min_new_tokens": (INTEGER, "no end token before this many"),
        "min_length": (INTEGER, "the same, the prompt's tokens counted in"),
        "max_time": (NUMBER, "stop after this many seconds"),
        "eos_token_id": (TOKENS, "end tokens (default: the model's; '' for none)"),
        "stop_strings": (TEXTS, "end before this text; repeatable"),
        "overflow": (
            CHOICE,
            "where the model's positions end: error (default) refuses a longer prompt, truncate "
            "keeps its end, slide writes on and forgets the older half",
        ),
    },
    "sampling": {
        "do_sample": (FLAG, "draw tokens by their probabilities (default: take the best one)"),
        "num_return_sequences": (INTEGER, "draw this many texts from one prompt"),
        "seed": (INTEGER, "the same seed draws the same text"),
        "temperature": (NUMBER, "divide the logits; below 1 is more predictable"),
        "top_k": (INTEGER, "draw from the N best tokens; 0 is all (default: 50)"),
        "top_p": (NUMBER, "draw from the fewest tokens whose probabilities reach this sum"),
        "min_p": (NUMBER, "draw from tokens at least this times as probable as the best one"),
        "typical_p": (NUMBER, "draw from the most typical tokens that reach this sum"),
        "epsilon_cutoff": (NUMBER, "draw from tokens of at least this probability"),
        "eta_cutoff": (NUMBER, "the same, lower where the model is unsure"),
    },
    "penalties": {
        "repetition_penalty": (NUMBER, "make tokens of prompt and text less likely; 1 is off"),
        "frequency_penalty": (NUMBER, "lower a token's logit by this each time it was written"),
        "presence_penalty": (NUMBER, "lower a token's logit by this once it was written"),
        "no_repeat_ngram_size": (INTEGER, "write no N tokens that stand there already"),
    },
    "constraints": {
        "logit_bias": (BIASES, "add X to a token's logit; repeatable"),
        "bad_words_ids": (WORDS, "never write these words, such as 5;7,9"),
        "suppress_tokens": (TOKENS, "never write these tokens"),
        "begin_suppress_tokens": (TOKENS, "don't begin with these tokens"),
        "forced_bos_token_id": (
            {"type": int, "metavar": "ID"},
            "begin with this token, where the prompt is the start token alone",
        ),
        "forced_eos_token_id": (TOKENS, "end with one of these tokens at the length limit"),
    },
}


def add_parameters(parser: Parser) -> None:
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for name, (kind, text) in options.items():
            option = "--" + name.replace("_", "-")
            group.add_argument(option, default=argparse.SUPPRESS, help=text, **kind)


def given_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """The parameters that the call gives; the model's own defaults hold for the others."""
    names = (name for options in GROUPS.values() for name in options)
    return {name: getattr(args, name) for name in names if hasattr(args, name)}
