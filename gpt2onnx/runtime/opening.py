"""What of a model folder becomes what: its graph a decoder, its files a tokenizer and defaults.

Knows folders and which decoders there are; knows nothing of what is done with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray

from gpt2onnx.errors import ModelFolderError
from gpt2onnx.runtime.decoder import Decoder
from gpt2onnx.runtime.flat import FlatDecoder
from gpt2onnx.runtime.folder import KERNELS_GRAPH, ModelFolder, open_folder
from gpt2onnx.runtime.fused import FusedDecoder
from gpt2onnx.runtime.kernels import chosen_kernels
from gpt2onnx.runtime.memory import give_back_memory
from gpt2onnx.runtime.portable import PortableDecoder
from gpt2onnx.runtime.session import Session, open_session
from gpt2onnx.runtime.startup import StartupCache

# What transformers' GPT2Config has where config.json is silent.
GPT2_END_OF_TEXT = 50256
# Seconds until ONNX Runtime has read the graph and lets go of Python's lock. Reading a tokenizer,
# which is done meanwhile, keeps the lock from its beginning to its end.
HEAD_START = 0.01


class Opened(NamedTuple):
    """The parts of an open model."""

    folder: ModelFolder
    tokenizer: tokenizers.Tokenizer
    decoder: Decoder[Any]
    session: Session


def open_model(
    folder: str | Path,
    provider: str,
    provider_options: Mapping[str, object] | None,
    threads: int | None,
    startup_cache: bool,
    beside: Callable[[], object] = lambda: None,
    graph: str = "auto",
) -> Opened:
    """Open a model folder; parameters and errors as `runtime.model.load`'s.

    `beside` is something else to do while ONNX Runtime is at work.
    """
    opened = open_folder(folder)
    opened.check_hashes_once()
    kernels = chosen_kernels(opened, graph, provider)
    if kernels:  # they pack for themselves
        opened, startup_cache = replace(opened, graph=opened.path / KERNELS_GRAPH), False
    startup = StartupCache(opened, partial(first_logits, opened)) if startup_cache else None
    tokenizer = cache(partial(open_tokenizer, opened))

    def meanwhile() -> None:
        began = time.perf_counter()
        beside()
        time.sleep(max(0.0, began + HEAD_START - time.perf_counter()))
        tokenizer()

    session = open_session(
        opened.graph,
        provider,
        provider_options,
        threads,
        startup,
        meanwhile=meanwhile,
        operators=kernels and kernels.library,
    )
    if kernels:
        session = replace(session, choice=f"{session.choice}; {kernels.name} kernels")
    decoder = open_decoder(opened, session)
    require_vocabulary(opened, tokenizer(), decoder.vocab_size)
    give_back_memory()
    return Opened(opened, tokenizer(), decoder, session)


def open_decoder(folder: ModelFolder, session: Session) -> Decoder[Any]:
    """The decoder for a folder's graph, recognised by its inputs. Errors: ModelFolderError."""
    if "slots" in session.inputs:
        return FlatDecoder(session, folder.n_positions)
    if "seqlens_k" in session.inputs:
        return FusedDecoder(session, folder.n_positions)
    return PortableDecoder(session, folder.n_positions)


def first_logits(folder: ModelFolder, session: Session) -> NDArray[np.float32]:
    """Logits [2, vocab] of some tokens, read at once, and of one more: for comparing sessions."""
    decoder = open_decoder(folder, session)
    ids = np.arange(min(9, decoder.n_positions - 1)) * 31 % decoder.vocab_size
    row = decoder.new_row()
    try:
        return np.stack([decoder.prefill(row, ids), decoder.step([row], ids[:1])[0]])
    finally:
        decoder.free(row)


def open_tokenizer(folder: ModelFolder) -> tokenizers.Tokenizer:
    """The folder's tokenizer. Errors: ModelFolderError."""
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder.tokenizer))
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelFolderError(f"{folder.tokenizer}: can't be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def require_vocabulary(
    folder: ModelFolder, tokenizer: tokenizers.Tokenizer, vocab_size: int
) -> None:
    """Raise ModelFolderError if the tokenizer has tokens that the model hasn't."""
    size = tokenizer.get_vocab_size()
    if size > vocab_size:
        raise ModelFolderError(
            f"{folder.tokenizer}: has {size} tokens, the model {vocab_size}: the tokenizer is "
            "another model's"
        )


def generation_defaults(folder: ModelFolder) -> dict[str, Any]:
    """What the checkpoint's own settings say of generation: GenerationParams' fields."""
    from gpt2onnx.samplers import defaults_from_generation_config  # imported meanwhile

    eos = {"eos_token_id": folder.config.get("eos_token_id", GPT2_END_OF_TEXT)}
    return {**eos, **defaults_from_generation_config(folder.generation_config)}


def bos_token_id(*settings_files: Mapping[str, Any]) -> int | None:
    """The token that an empty prompt starts from, by the first file that says; None for none."""
    for settings in settings_files:
        if "bos_token_id" in settings:
            token: int | None = settings["bos_token_id"]
            return token
    return GPT2_END_OF_TEXT
