"""GenerationParams as options: one a field, by the field's own name.

Knows how a value is written on a command line; what it may be, GenerationParams says.
"""

from __future__ import annotations

import argparse
from typing import Any

from gpt2onnx.cli.parser import Pairs, Parser, utf8
from gpt2onnx.errors import ParameterError
from gpt2onnx.files import as_path, read_text


def _ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected token ids such as 1,2, got {text!r}") from None


def _words(text: str) -> list[list[int]]:
    return [_ids(word) for word in text.split(";")]


def _phrases(text: str) -> list[list[list[int]]]:
    return [[_ids(phrase) for phrase in one.split("|")] for one in text.split(";")]


def _early_stopping(text: str) -> bool | str:
    lower = text.lower()  # messages have Python's True and False
    return {"true": True, "false": False}.get(lower, lower)


def _bias(text: str) -> tuple[int, float]:
    token, _, bias = text.partition("=")
    try:
        return int(token), float(bias)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected ID=X such as 50256=-5, got {text!r}") from None


def _schema(text: str) -> str:
    return text if text.removeprefix("\ufeff").lstrip().startswith("{") else _file(text)


def _grammar(text: str) -> str:
    return text if ":" in text else _file(text)


def _file(path: str) -> str:
    try:
        return read_text(as_path(path, "FILE", ParameterError), ParameterError)
    except ParameterError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _names(text: str) -> list[str]:
    return text.split(",")


# How a kind of value is written.
FLAG = {"action": argparse.BooleanOptionalAction}
INTEGER = {"type": int, "metavar": "N"}
NUMBER = {"type": float, "metavar": "X"}
CHOICE = {"metavar": "NAME"}
NAMES = {"type": _names, "metavar": "NAME,NAME"}
TEXTS = {"action": "append", "type": utf8, "metavar": "TEXT"}
TOKENS = {"action": "extend", "type": _ids, "metavar": "ID,ID"}
WORDS = {"action": "extend", "type": _words, "metavar": "ID,ID;ID"}
PHRASES = {"action": "extend", "type": _phrases, "metavar": "ID,ID|ID;ID"}
BIASES = {"action": Pairs, "type": _bias, "metavar": "ID=X"}

# All fields but prefix_allowed_tokens_fn and stop_fn: a function has no option.
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
        "num_return_sequences": (INTEGER, "give this many texts of one prompt"),
        "best_of": (INTEGER, "draw this many, and give the most probable ones, best first"),
        "return_alternatives": (
            FLAG,
            "begin the texts with different tokens, the most probable ones in order",
        ),
        "seed": (INTEGER, "the same seed draws the same text"),
        "temperature": (NUMBER, "divide the logits; below 1 is more predictable"),
        "dynatemp_range": (NUMBER, "move the temperature up to X down and up with the entropy"),
        "dynatemp_exponent": (NUMBER, "above 1 it moves up late, below 1 early (default: 1)"),
        "top_k": (INTEGER, "draw from the N best tokens; 0 is all (default: 50)"),
        "top_p": (NUMBER, "draw from the fewest tokens whose probabilities reach this sum"),
        "min_p": (NUMBER, "draw from tokens at least this times as probable as the best one"),
        "typical_p": (NUMBER, "draw from the most typical tokens that reach this sum"),
        "epsilon_cutoff": (NUMBER, "draw from tokens of at least this probability"),
        "eta_cutoff": (NUMBER, "the same, lower where the model is unsure"),
        "top_n_sigma": (NUMBER, "draw from logits at most X deviations below the largest"),
        "tfs_z": (NUMBER, "cut the tail off where the sorted probabilities have stopped bending"),
        "top_a": (
            NUMBER,
            "draw from tokens of at least X times the best one's probability squared",
        ),
        "xtc_probability": (NUMBER, "how often to leave out all probable tokens but the last"),
        "xtc_threshold": (NUMBER, "what counts as probable there (default: 0.1)"),
        "mirostat_mode": (INTEGER, "hold the surprise, in place of other cuts: algorithm 1 or 2"),
        "mirostat_tau": (NUMBER, "the surprise to hold, in bits a token (default: 5)"),
        "mirostat_eta": (NUMBER, "how much of an error the next token takes back (default: 0.1)"),
        "sampler_order": (NAMES, "what to apply in turn, such as top_k,temperature"),
    },
    "beam search": {
        "num_beams": (INTEGER, "follow this many texts and give the best (default: 1)"),
        "length_penalty": (
            NUMBER,
            "divide scores by length to the power of X: above 0 favours long texts (default: 1)",
        ),
        "early_stopping": (
            {"type": _early_stopping, "metavar": "WHEN"},
            "true: stop when as many texts as beams have ended; false (default): when a better one "
            "is unlikely; never: when there can't be one",
        ),
        "num_beam_groups": (INTEGER, "beams in groups that avoid each other's tokens"),
        "diversity_penalty": (NUMBER, "how much: taken off for each earlier group's same token"),
        "force_words_ids": (PHRASES, "write these phrases, such as 5;7,9, or one of 5|7,9"),
    },
    "contrastive search": {
        "penalty_alpha": (
            NUMBER,
            "of the --top-k best tokens take one that is unlike the text so far: 0 weighs only how "
            "probable it is, 1 only how unlike; for models exported with --with-hidden-states",
        ),
    },
    "speculation": {
        "num_assistant_tokens": (INTEGER, "tokens of --draft's first guess (default: 5)"),
        "assistant_confidence_threshold": (
            NUMBER,
            "end --draft's guess before a token to which it gives less (default: 0.1)",
        ),
        "prompt_lookup_num_tokens": (
            INTEGER,
            "guess this many tokens, at first, from what followed the text's last words before",
        ),
        "max_matching_ngram_size": (INTEGER, "look for this many tokens, then fewer (default: 2)"),
        "lookahead_window_size": (
            INTEGER,
            "lookahead decoding: let the model guess ahead of itself at this many positions "
            "(default: 1, where one of the next two is given); for models exported with "
            "--with-attention-bias",
        ),
        "lookahead_ngram_size": (INTEGER, "the same with n-grams of this many tokens (default: 4)"),
        "lookahead_guess_set_size": (
            INTEGER,
            "the same, and check at most this many of them at once (default: 1)",
        ),
    },
    "guidance": {
        "guidance_scale": (
            NUMBER,
            "above 1, keep closer to the prompt, farther from --negative-prompt; 1 is off",
        ),
    },
    "penalties": {
        "repetition_penalty": (NUMBER, "make tokens of prompt and text less likely; 1 is off"),
        "frequency_penalty": (NUMBER, "lower a token's logit by this each time it was written"),
        "presence_penalty": (NUMBER, "lower a token's logit by this once it was written"),
        "no_repeat_ngram_size": (INTEGER, "write no N tokens that stand there already"),
        "dry_multiplier": (NUMBER, "penalize going on with a repetition, more and more (DRY)"),
        "dry_base": (NUMBER, "by how much more for each token of it (default: 1.75)"),
        "dry_allowed_length": (INTEGER, "from how many repeated tokens on (default: 2)"),
        "dry_penalty_last_n": (INTEGER, "look at the last N tokens only (default: -1, all)"),
        "dry_sequence_breakers": (
            TEXTS,
            "a repetition doesn't reach across this text; repeatable (default: line break, colon, "
            "quotation mark, asterisk)",
        ),
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
        "regex": (
            {"type": utf8, "metavar": "REGEX"},
            "write a text that matches it, in Rust's syntax, and end; of regex, json-schema, "
            "grammar and choices one at most, and where a limit comes first the text is cut short",
        ),
        "json_schema": (
            {"type": _schema, "metavar": "FILE"},
            "write JSON that the schema allows, and end: a file, or the schema itself, "
            "told by its brace",
        ),
        "json_layout": (
            CHOICE,
            "how that JSON is laid out: spaced (default), as Python writes it; compact, without "
            "white space; free, with white space wherever JSON allows it",
        ),
        "grammar": (
            {"type": _grammar, "metavar": "FILE"},
            "write a text that the Lark grammar allows, and end: a file, or the grammar itself, "
            "told by its colon",
        ),
        "choices": (TEXTS, "write one of these texts, and end; repeatable"),
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
