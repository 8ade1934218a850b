"""A checkpoint's tokenizer as one `tokenizers.Tokenizer`, which gives transformers' ids.

A checkpoint spreads its tokenizer over up to six files, and transformers lets the settings beside
tokenizer.json overrule it. All of it ends up in the Tokenizer here, whose own file is all that the
runtime needs. Knows nothing of the model but its vocabulary's size.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import ByteLevel as ByteLevelProcessor
from tokenizers.processors import TemplateProcessing

from gpt2onnx.errors import TokenizerError
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.checkpoint.tokenizer_settings import TokenizerSettings
from gpt2onnx.files import path_errors, read_json, read_text
from gpt2onnx.tokenizer.file import (
    MAX_BYTES,
    largest_id,
    read_tokenizer_json,
    require_harmless,
    require_ids,
    tokenizer_of,
)
from gpt2onnx.tokenizer.library import library_errors

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read tokenizer.json, or else GPT-2's vocab.json and merges.txt, and the settings beside them.

    Raises TokenizerError where there is no tokenizer, or an unreadable one.
    """
    settings = TokenizerSettings(folder)
    with library_errors(TokenizerError, f"{folder}: the tokenizer can't be read", folder):
        tokenizer = _read_tokenizer(folder, settings)
        _add_tokens(tokenizer, settings)
        if hasattr(tokenizer.pre_tokenizer, "add_prefix_space"):
            tokenizer.pre_tokenizer.add_prefix_space = settings.add_prefix_space
        tokenizer.no_truncation()
        tokenizer.no_padding()
    return tokenizer


def check_size(tokenizer: Tokenizer, config: Gpt2Config) -> None:
    """Refuse a tokenizer with ids beyond the model's. Raises TokenizerError."""
    require_ids(largest_id(tokenizer), config.vocab_size, "tokenizer", TokenizerError)


def _read_tokenizer(folder: Path, settings: TokenizerSettings) -> Tokenizer:
    file, vocab, merges = (folder / name for name in TOKENIZER_FILES[:3])
    with path_errors(folder, TokenizerError):
        whole, parts = file.exists(), vocab.exists() and merges.exists()
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    if whole:
        text = read_tokenizer_json(file, TokenizerError)
        require_harmless(text, file, TokenizerError)
        return tokenizer_of(text, file, TokenizerError)
    advice = "load the tokenizer in transformers and save it there by save_pretrained()"
    if not parts:
        raise TokenizerError(
            f"{folder}: expected tokenizer.json, or vocab.json and merges.txt, found {found:.300};"
            f" {advice}",
            path=folder,
        )
    if not settings.is_gpt2:
        raise TokenizerError(
            f"{folder}: expected a tokenizer.json for {settings.tokenizer_class}, found none;"
            f" {advice}",
            path=folder,
            name="tokenizer.json",
        )
    return _byte_level_bpe(vocab, merges, settings)


def _byte_level_bpe(vocab: Path, merges: Path, settings: TokenizerSettings) -> Tokenizer:
    """GPT-2's own tokenizer: byte-pair merges of text as bytes."""
    tokenizer = Tokenizer(BPE(_read_vocab(vocab), _read_merges(merges)))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.post_processor = ByteLevelProcessor(trim_offsets=False)
    if settings.add_bos_token:
        bos = settings.bos_token
        if bos is None or tokenizer.token_to_id(bos) is None:
            raise TokenizerError(
                f"{vocab}: the tokenizer's settings have add_bos_token, but bos_token {bos!r} isn't"
                " in the vocabulary; set add_bos_token to false",
                path=vocab,
                name="bos_token",
            )
        tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return tokenizer


def _read_vocab(path: Path) -> dict[str, int]:
    """Ids by token. Raises TokenizerError where they can't be ids."""
    vocab = read_json(path, TokenizerError, MAX_BYTES)
    for token, index in vocab.items():
        if type(index) is not int or not 0 <= index < 2**32:
            raise TokenizerError(
                f"{path}: expected token ids from 0 up, found {index!r:.50} for {token!r:.100}",
                path=path,
            )
    return vocab


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """The pairs of a merges.txt, one a line, in order. Raises TokenizerError."""
    merges = []
    for number, line in enumerate(read_text(path, TokenizerError, MAX_BYTES).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or line.startswith("#version"):
            continue
        first, *rest = line.split(" ")
        if len(rest) != 1:
            raise TokenizerError(
                f"{path}: expected two tokens on line {number}, found {line!r:.100}",
                path=path,
            )
        merges.append((first, rest[0]))
    return merges


def _add_tokens(tokenizer: Tokenizer, settings: TokenizerSettings) -> None:
    """Add the tokens that the settings tell of. A new one has the next free id.

    A default of GPT2Tokenizer that the vocabulary lacks isn't added: the model has no row for it.
    """
    special: dict[str, AddedToken] = {}
    for token, named in settings.special_tokens():
        if named or tokenizer.token_to_id(token.content) is not None:
            special.setdefault(token.content, token)
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for index, token in settings.declared_tokens(known):
        token.special |= token.content in special
        tokenizer.add_tokens([token])
        known.add(token.content)
        _require_id(tokenizer, token, index)
    tokenizer.add_tokens([token for token in special.values() if token.content not in known])


def _require_id(tokenizer: Tokenizer, token: AddedToken, index: int) -> None:
    found = tokenizer.token_to_id(token.content)
    if found != index:
        raise TokenizerError(
            f"the added token {token.content!r} has id {index} in the tokenizer's settings, but"
            f" {found} in its vocabulary; save it anew in transformers by save_pretrained()",
            name=token.content,
        )
