"""A checkpoint's tokenizer as one `tokenizers.Tokenizer`, which gives transformers' ids.

A checkpoint spreads its tokenizer over up to six files, and transformers lets the settings beside
tokenizer.json overrule it. All of it ends up in the Tokenizer here, whose own file is all that the
runtime needs. Knows nothing of the model but its vocabulary's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import ByteLevel as ByteLevelProcessor
from tokenizers.processors import TemplateProcessing

from gpt2onnx.errors import TokenizerError
from gpt2onnx.export.config import Gpt2Config
from gpt2onnx.files import read_json

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)

END_OF_TEXT = "<|endoftext|>"

SPECIAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
"""The settings that name a special token, in the order in which transformers adds them."""

FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read tokenizer.json, or else GPT-2's vocab.json and merges.txt, and the settings beside them.

    Raises TokenizerError where there is no tokenizer, or an unreadable one.
    """
    settings = _read_settings(folder)
    try:
        tokenizer = _read_tokenizer(folder, settings)
        _add_tokens(tokenizer, settings)
        if hasattr(tokenizer.pre_tokenizer, "add_prefix_space"):
            tokenizer.pre_tokenizer.add_prefix_space = settings.get("add_prefix_space", False)
    except TokenizerError:
        raise
    except Exception as error:  # tokenizers raises nothing narrower
        raise TokenizerError(f"{folder}: the tokenizer can't be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def check_size(tokenizer: Tokenizer, config: Gpt2Config) -> None:
    """Refuse a tokenizer with ids beyond the model's. Fewer are common: vocabularies get padded."""
    largest, token = max((index, token) for token, index in tokenizer.get_vocab().items())
    if largest >= config.vocab_size:
        raise TokenizerError(
            f"the tokenizer's id {largest}, {token!r}, is beyond the model's vocab_size"
            f" {config.vocab_size}; take that token out of the tokenizer's files, or give the model"
            " a row for it by resize_token_embeddings()"
        )


def _read_settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json and, where it leaves them their say, the older files beside it."""
    settings = _read_optional(folder / "tokenizer_config.json")
    if settings.get("split_special_tokens"):
        raise TokenizerError(
            f"{folder}: tokenizer_config.json sets split_special_tokens, which the exported"
            " tokenizer.json can't hold; set it to false"
        )
    if "added_tokens_decoder" not in settings:
        additional = settings.get("additional_special_tokens") or []
        settings |= _read_optional(folder / "special_tokens_map.json")
        settings["additional_special_tokens"] = [
            *additional,
            *(settings.get("additional_special_tokens") or []),
        ]
        settings["added_tokens"] = _read_optional(folder / "added_tokens.json")
    return settings


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json(path, TokenizerError) if path.exists() else {}


def _read_tokenizer(folder: Path, settings: Mapping[str, Any]) -> Tokenizer:
    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocab.exists() and merges.exists()):
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise TokenizerError(
            f"{folder}: expected tokenizer.json, or vocab.json and merges.txt, found {found};"
            " load the tokenizer in transformers and save it there by save_pretrained()"
        )
    if not _is_gpt2(settings):
        raise TokenizerError(
            f"{folder}: expected a tokenizer.json for {settings['tokenizer_class']}, found none;"
            " load the tokenizer in transformers and save it there by save_pretrained()"
        )
    return _byte_level_bpe(vocab, merges, settings)


def _byte_level_bpe(vocab: Path, merges: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """GPT-2's own tokenizer: byte-pair merges of text as bytes."""
    tokenizer = Tokenizer(BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.post_processor = ByteLevelProcessor(trim_offsets=False)
    if settings.get("add_bos_token"):
        bos = _added_token(settings.get("bos_token", END_OF_TEXT)).content
        tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return tokenizer


def _is_gpt2(settings: Mapping[str, Any]) -> bool:
    """GPT2Tokenizer is also what transformers takes for a GPT-2 that names no tokenizer_class."""
    name = settings.get("tokenizer_class") or "GPT2Tokenizer"
    return name in ("GPT2Tokenizer", "GPT2TokenizerFast")


def _add_tokens(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
    """Add the tokens that the settings tell of. A new one has the next free id."""
    special = {token.content: token for token in _special_tokens(settings)}
    if _is_gpt2(settings) and tokenizer.token_to_id(END_OF_TEXT) is not None:
        special.setdefault(END_OF_TEXT, AddedToken(END_OF_TEXT, special=True))
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for index, token in _declared_tokens(settings, known):
        token.special |= token.content in special
        tokenizer.add_tokens([token])
        known.add(token.content)
        if tokenizer.token_to_id(token.content) != index:
            raise TokenizerError(
                f"the added token {token.content!r} has id {index} in the tokenizer's settings, but"
                f" {tokenizer.token_to_id(token.content)} in its vocabulary; save it anew in"
                " transformers by save_pretrained()"
            )
    tokenizer.add_tokens([token for token in special.values() if token.content not in known])


def _special_tokens(settings: Mapping[str, Any]) -> list[AddedToken]:
    named = [settings.get(name) for name in SPECIAL_TOKENS]
    additional = settings.get("additional_special_tokens") or []
    tokens = [_added_token(value) for value in [*named, *additional] if value is not None]
    for token in tokens:
        token.special = True
    return tokens


def _declared_tokens(settings: Mapping[str, Any], known: set[str]) -> list[tuple[int, AddedToken]]:
    """The tokens that the settings give ids, by id. Older settings don't change those `known`."""
    if "added_tokens_decoder" in settings:
        declared = settings["added_tokens_decoder"]
        return sorted((int(index), _added_token(value)) for index, value in declared.items())
    added = settings["added_tokens"].items()
    return sorted((index, AddedToken(name)) for name, index in added if name not in known)


def _added_token(value: str | Mapping[str, Any]) -> AddedToken:
    if isinstance(value, str):
        return AddedToken(value, special=True)
    flags = {flag: value[flag] for flag in FLAGS if flag in value}
    return AddedToken(value["content"], special=value.get("special", False), **flags)
