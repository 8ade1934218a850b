"""A byte-level BPE's tokenizer.json: what is in it, and the same with fewer tokens.

Knows the library's JSON; knows nothing of how the tokens that stay are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import pre_tokenizers

from gpt2onnx.errors import TokenizerError
from gpt2onnx.smaller.checkpoint import json_bytes
from gpt2onnx.tokenizer.parts import parts_at, template_ids

NewIds = Mapping[int, int]


def require_byte_level(content: Mapping[str, Any], name: object) -> None:
    """Raise TokenizerError for what isn't a byte-level BPE with a token for each byte."""
    model = content["model"]
    kind = model.get("type")
    if kind != "BPE":
        raise _refused(name, f"a {kind} model")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise _refused(name, f"a BPE with {option} {model[option]!r:.50}")
    places = ("normalizer", "pre_tokenizer")
    kinds = [part.get("type") for place in places for part in parts_at(content, place)]
    if "ByteLevel" not in kinds:
        raise _refused(name, f"a BPE over {', '.join(map(str, kinds)) or 'characters'}")
    lacking = [symbol for symbol in byte_symbols() if symbol not in model["vocab"]]
    if lacking:
        raise _refused(name, f"one without a token for {len(lacking)} of the 256 bytes")


def byte_symbols() -> list[str]:
    """The 256 characters that stand for bytes."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def merges_of(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs in order; older files have them as texts."""
    merges = content["model"]["merges"]
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in merges)
    return [(first, second) for first, second in pairs]


def trimmed(content: Mapping[str, Any], new_ids: NewIds) -> dict[str, Any]:
    """The same with the tokens whose ids are in `new_ids`, and the merges that are among them."""
    model = content["model"]
    vocab = {token: new_ids[index] for token, index in model["vocab"].items() if index in new_ids}
    merges = [list(pair) for pair in merges_of(content) if vocab.keys() >= {*pair, "".join(pair)}]
    return {
        **content,
        "added_tokens": [
            {**token, "id": new_ids[token["id"]]} for token in content["added_tokens"]
        ],
        "post_processor": _with_new_ids(content["post_processor"], new_ids),
        "model": {**model, "vocab": vocab, "merges": merges},
    }


def named_ids(content: Mapping[str, Any]) -> Iterator[int]:
    """The tokens that the tokenizer itself names: bytes, added ones, what it puts before a text."""
    model = content["model"]
    yield from (model["vocab"][symbol] for symbol in byte_symbols())
    yield from (token["id"] for token in content["added_tokens"])
    yield from (index for index, _ in template_ids(content["post_processor"]))
    if model.get("unk_token") in model["vocab"]:
        yield model["vocab"][model["unk_token"]]


def vocab_and_merges(content: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """GPT-2's own two files of the same: vocab.json and merges.txt."""
    lines = ["#version: 0.2", *map(" ".join, merges_of(content)), ""]
    yield "vocab.json", json_bytes(content["model"]["vocab"])
    yield "merges.txt", "\n".join(lines).encode()


def _with_new_ids(part: Any, new_ids: NewIds) -> Any:
    """A post-processor, whose parts may add tokens of their own."""
    match part:
        case {"type": "Sequence", "processors": list(several)}:
            return {**part, "processors": [_with_new_ids(each, new_ids) for each in several]}
        case {"type": "TemplateProcessing", "special_tokens": dict(tokens)}:
            changed = {
                name: {**token, "ids": [new_ids[index] for index in token["ids"]]}
                for name, token in tokens.items()
            }
            return {**part, "special_tokens": changed}
        case {"type": "BertProcessing" | "RobertaProcessing", "sep": sep, "cls": cls}:
            return {**part, "sep": [sep[0], new_ids[sep[1]]], "cls": [cls[0], new_ids[cls[1]]]}
    return part


def _refused(name: object, found: str) -> TokenizerError:
    return TokenizerError(f"{name}: expected a byte-level BPE tokenizer, found {found}")
