"""A small random checkpoint whose tokenizer has merges, trained on a module of the library."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.checkpoints import END_OF_TEXT, make_checkpoint

TEXT = Path(argparse.__file__).read_text(encoding="utf-8")
TOKENS = 700
END, PAD = TOKENS, TOKENS + 1
PADDED = 720  # rows of the embedding, of which the last have no token


def trained_tokenizer(text: str = TEXT) -> Tokenizer:
    """256 bytes, merges up to TOKENS tokens, then `<|endoftext|>` and a pad token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=TOKENS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([text], trainer)
    assert tokenizer.get_vocab_size() == TOKENS
    tokenizer.add_special_tokens([END_OF_TEXT, AddedToken("<pad>", special=True)])
    return tokenizer


def make_bpe_checkpoint(folder: Path, **overrides: Any) -> Path:
    """As `make_checkpoint`, with GPT-2's tokenizer files in full and ids in the settings."""
    ids = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": PAD}
    make_checkpoint(folder, **{"vocab_size": PADDED, **ids, **overrides})
    tokenizer = trained_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    flags = settings["added_tokens_decoder"]["256"]
    settings["added_tokens_decoder"] = {
        str(END): {**flags, "normalized": False},
        str(PAD): {**flags, "content": "<pad>", "normalized": False},
    }
    settings["pad_token"] = "<pad>"
    write(folder / "tokenizer_config.json", settings)
    write(
        folder / "generation_config.json",
        {**ids, "eos_token_id": [END, 650], "suppress_tokens": [699, 300]},
    )
    return folder


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
