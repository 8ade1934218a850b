"""The tokenizer's share of the start-up cache: its parts, for a faster opening the next time.

Knows when they fit and what they are made of; how a tokenizer is taken apart is tokenizer's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tokenizers

from gpt2onnx.errors import StorageError
from gpt2onnx.runtime.folder.model_folder import ModelFolder
from gpt2onnx.runtime.ort.startup_cache import startup_entries, throw_away_older
from gpt2onnx.runtime.ort.startup_entries import Entries
from gpt2onnx.tokenizer.parts_on_disk import from_parts, save_parts

# Changes when what an entry holds does.
FORMAT = 1
# A smaller tokenizer.json is read in the time that looking for its entry takes.
MIN_SIZE = 500_000


def kept_tokenizer(
    folder: ModelFolder, open_whole: Callable[[], tokenizers.Tokenizer]
) -> tokenizers.Tokenizer:
    """The folder's tokenizer, by `open_whole` or as it was kept; makes an entry where none is.

    Raises what `open_whole` does, and ParameterError where the cache's size limit can't be read.
    """
    if folder.tokenizer.stat().st_size < MIN_SIZE:
        return open_whole()
    try:
        entries = startup_entries()
    except StorageError:
        return open_whole()
    made_of = {
        "format": FORMAT,
        "tokenizers": tokenizers.__version__,
        "model": folder.tokenizer_identity(),
    }
    entry = entries.find(made_of) if entries.limit else None
    if entry and not entry.refused:
        try:
            return from_parts(entry.path, StorageError)
        except StorageError:  # another process has just removed it
            entries.remove(entry.path)
    tokenizer = open_whole()
    if entries.limit and entry is None:
        _keep(folder, tokenizer, entries, made_of)
    return tokenizer


def _keep(
    folder: ModelFolder,
    tokenizer: tokenizers.Tokenizer,
    entries: Entries,
    made_of: Mapping[str, Any],
) -> None:
    """Leave an entry for the next time, if there is room."""

    def write(to: Path) -> str | None:
        return save_parts(tokenizer, to, StorageError)

    about = {"path": str(folder.path.resolve()), "graph": "tokenizer"}
    try:
        throw_away_older(entries, about, made_of["model"])
        entries.add(made_of, about, write)
    except (OSError, StorageError):  # it only saves time
        return
