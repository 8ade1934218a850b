"""What the demo models learn from: Python's standard library, and a tokenizer trained on it.

Knows files and texts; knows no model.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END_OF_TEXT = "<|endoftext|>"
VOCAB_SIZE = 4096
HELD_OUT_ONE_IN = 20

SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "__pycache__", "__phello__"}
SKIPPED_MODULES = {
    "html.entities",  # tables: nothing to learn but numbers and names
    "locale",
    "pydoc_data.topics",  # its texts are taken instead
    "re._casefix",
    "sitecustomize",  # belongs to the machine, not to Python
    "stringprep",
    "usercustomize",
}
CHARMAP_MARKS = ("decoding_table", "decoding_map")  # names in the generated part of encodings/


@dataclass(frozen=True)
class Document:
    name: str  # of a module, dotted, or of a pydoc topic
    text: str


@dataclass(frozen=True)
class Corpus:
    training: list[Document]
    held_out: list[Document]


def module_name(path: Path) -> str:
    """`json/__init__.py` -> `json`, `json/tool.py` -> `json.tool`."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_wanted(path: Path) -> bool:
    # A folder whose name is no identifier (config-3.11-x86_64-linux-gnu) holds no modules but this
    # build's settings.
    folders = path.parts[:-1]
    if any(name in SKIPPED_FOLDERS or not name.isidentifier() for name in folders):
        return False
    return module_name(path) not in SKIPPED_MODULES and not path.name.startswith("_sysconfigdata")


def is_charmap(path: Path, text: str) -> bool:
    return path.parts[0] == "encodings" and any(mark in text for mark in CHARMAP_MARKS)


def library_modules() -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(path.relative_to(root) for path in root.rglob("*.py")):
        if is_wanted(path):
            text = (root / path).read_text(encoding="utf-8")
            if text.strip() and not is_charmap(path, text):
                yield Document(module_name(path), text)


def pydoc_topics() -> Iterator[Document]:
    for name in sorted(topics):
        yield Document(f"topic {name}", topics[name])


def is_held_out(name: str) -> bool:
    """One name in twenty, always the same: Python's own hash() changes with the process."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


def load_corpus() -> Corpus:
    modules = list(library_modules())
    return Corpus(
        training=[d for d in modules if not is_held_out(d.name)] + list(pydoc_topics()),
        held_out=[d for d in modules if is_held_out(d.name)],
    )


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE as GPT-2's own: same pre-tokenizer, and END_OF_TEXT is the last token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([END_OF_TEXT])
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise ValueError(f"expected {VOCAB_SIZE} tokens, BPE found {tokenizer.get_vocab_size()}")
    return tokenizer


def encode(tokenizer: Tokenizer, documents: list[Document]) -> list[np.ndarray]:
    """One int64 [tokens] a document, END_OF_TEXT first."""
    start = tokenizer.token_to_id(END_OF_TEXT)
    encodings = tokenizer.encode_batch([d.text for d in documents])
    return [np.array([start, *encoding.ids], dtype=np.int64) for encoding in encodings]


def text_bytes(documents: list[Document]) -> int:
    return sum(len(d.text.encode()) for d in documents)
