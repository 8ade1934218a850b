"""The parts of a tokenizer.json: normalizers, pre-tokenizers, processors, decoders.

Knows the library's JSON and how much longer each part can make a text; runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from gpt2onnx.errors import Gpt2OnnxError
from gpt2onnx.files import unusable

# How many parts one tokenizer may have, and how many times longer they may make a text together.
MOST_PARTS = 100
MOST_GROWTH = 1000.0
_DEEPEST = 16
# Where a part may be, and where the parts of a "Sequence" are.
_PLACES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_MEMBERS = ("normalizers", "pretokenizers", "processors", "decoders")

# Parts without patterns, tables and lengths of their own: nothing in them can be wrong.
_PLAIN = frozenset(
    {
        *("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "Nmt"),
        *("ByteLevel", "BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Digits", "Metaspace"),
        *("Punctuation", "UnicodeScripts", "CharDelimiterSplit", "BertProcessing"),
        *("RobertaProcessing", "WordPiece", "BPEDecoder", "ByteFallback", "Fuse", "Prepend"),
    }
)


def require_bounded(tokenizer: Mapping[str, Any], name: object, error: type[Gpt2OnnxError]) -> None:
    """Raise `error` for more parts than any tokenizer has, and for texts grown out of all bounds.

    Of parts that the library doesn't know it says so itself.
    """
    for place in _PLACES:
        parts = list(_within(tokenizer.get(place), name, error))
        if len(parts) > MOST_PARTS:
            found = f"expected a {place} of at most {MOST_PARTS} parts, found more"
            raise unusable(error, name, found)
        growth = math.prod(map(_growth, parts))
        if growth > MOST_GROWTH:
            longer = f"its {place} can make a text {growth:.3g} times longer"
            raise unusable(error, name, f"{longer}: expected at most {MOST_GROWTH:.0f} times")


def is_plain(tokenizer: Mapping[str, Any]) -> bool:
    """Whether no part can panic or run on, so that it needn't be tried; of bounded ones."""
    parts = (part for place in _PLACES for part in parts_at(tokenizer, place))
    model = tokenizer.get("model")
    prefix = model.get("continuing_subword_prefix") if isinstance(model, Mapping) else None
    whole = not prefix or (isinstance(model, Mapping) and model.get("type") == "WordPiece")
    return whole and all(part.get("type") in _PLAIN for part in parts)


def parts_at(tokenizer: Mapping[str, Any], place: str) -> Iterator[Mapping[str, Any]]:
    """The parts at a place such as "pre_tokenizer", those of sequences one by one."""
    return _within(tokenizer.get(place), "", Gpt2OnnxError)


def template_ids(part: Any) -> Iterator[tuple[int, str]]:
    """The ids, with their names, that a post-processor adds to a text."""
    for each in _within(part, "", Gpt2OnnxError):
        if each.get("type") == "TemplateProcessing":
            for token in each["special_tokens"].values():
                yield from zip(token["ids"], token["tokens"], strict=False)
        elif each.get("type") in ("BertProcessing", "RobertaProcessing"):
            for name in ("sep", "cls"):
                token, index = each[name]
                yield index, token


def _within(
    part: Any, name: object, error: type[Gpt2OnnxError], depth: int = 0
) -> Iterator[Mapping[str, Any]]:
    """The parts that a part is made of, itself where it is one."""
    if not isinstance(part, Mapping):
        return
    if depth > _DEEPEST:
        raise unusable(error, name, f"its parts are nested more than {_DEEPEST} deep")
    members = [part[key] for key in _MEMBERS if isinstance(part.get(key), list)]
    if not members:
        yield part
    for member in (each for found in members for each in found):
        yield from _within(member, name, error, depth + 1)


def _growth(part: Mapping[str, Any]) -> float:
    """How many times longer a part can make a text, or what it is given of one."""
    match part:
        case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)} if old:
            return max(1.0, len(new) / len(old))
        case {"type": "Replace", "content": str(new)}:  # the shortest match may be empty
            return 1.0 + len(new)
        case {"type": "Prepend", "prepend": str(new)}:
            return 1.0 + len(new)
        case {"type": "TemplateProcessing", "single": list(pieces)}:
            return max(1.0, float(len(pieces)))
    return 1.0
