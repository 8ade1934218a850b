"""Opens a model folder: decoder, tokenizer, generation defaults.

Knows folders and which decoders there are; knows nothing of what is done with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray

from gpt2onnx.errors import Advised, ModelFolderError, ProviderError
from gpt2onnx.runtime.chosen_graph import choose_graph
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.decoder.flat import FlatDecoder
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.decoder.portable import PortableDecoder
from gpt2onnx.runtime.decoder.protocol import Decoder
from gpt2onnx.runtime.folder.model_folder import ModelFolder, open_folder
from gpt2onnx.runtime.kept_tokenizer import kept_tokenizer
from gpt2onnx.runtime.machine.memory import give_back_memory
from gpt2onnx.runtime.ort.provider import CPU, Provider
from gpt2onnx.runtime.ort.session import Session, create
from gpt2onnx.runtime.ort.startup_cache import StartupCache
from gpt2onnx.tokenizer.file import (
    largest_id,
    read_tokenizer_json,
    require_harmless,
    require_ids,
    tokenizer_of,
)

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
    chosen = choose_graph(open_folder(folder), graph, provider)
    opened = chosen.folder
    whole = partial(open_tokenizer, opened)
    tokenizer = cache(partial(kept_tokenizer, opened, whole) if startup_cache else whole)
    largest = opened.check_once(lambda: largest_token_id(opened, tokenizer))
    startup = StartupCache(opened, partial(first_logits, opened), chosen.kernels)

    def meanwhile() -> None:
        began = time.perf_counter()
        beside()
        time.sleep(max(0.0, began + HEAD_START - time.perf_counter()))
        tokenizer()

    creators = (startup.create, startup.create_beside) if startup_cache else (create, create)
    session = chosen.open(
        provider, provider_options, threads, meanwhile=meanwhile, create=creators[0]
    )
    loop = chosen.loop(provider_options, threads, creators[1])
    decoder = open_decoder(opened, session, loop)
    if largest >= decoder.vocab_size:
        found = largest_id(tokenizer())
        require_ids(found, decoder.vocab_size, opened.tokenizer, ModelFolderError)
    give_back_memory()
    return Opened(opened, tokenizer(), decoder, session)


def open_decoder(
    folder: ModelFolder, session: Session, open_loop: Callable[[], Session] | None = None
) -> Decoder[Any]:
    """The decoder for a folder's graph, recognised by its inputs; `open_loop` is FlatDecoder's.

    Raises ModelFolderError; ProviderError for one whose cache a plugin can't keep in place.
    """
    if "slots" in session.inputs:
        return FlatDecoder(session, folder.n_positions, open_loop)
    if "seqlens_k" in session.inputs:
        _require_cache_in_place(session.runs_on)
        return FusedDecoder(session, folder.n_positions)
    return PortableDecoder(session, folder.n_positions)


def _require_cache_in_place(provider: Provider) -> None:
    """Raises ProviderError for a plugin with a device's memory, which isn't ours to append in."""
    if provider.plugin and not provider.in_host_memory:
        raise ProviderError(
            f"{provider.short} can't keep the cache of this graph on its device: use one of "
            f"{provider.wants}, or ",
            Advised("provider", CPU.short),
            name=provider.short,
        )


def first_logits(folder: ModelFolder, session: Session) -> NDArray[np.float32]:
    """Logits [2, vocab] of some tokens, read at once, and of one more: for comparing sessions."""
    decoder = open_decoder(folder, session)
    ids = np.arange(min(9, decoder.n_positions - 1)) * 31 % decoder.vocab_size
    row = decoder.new_row()
    try:
        return np.stack([reads.prefill(decoder, row, ids), reads.step(decoder, [row], ids[:1])[0]])
    finally:
        decoder.free(row)


def open_tokenizer(folder: ModelFolder) -> tokenizers.Tokenizer:
    """The folder's tokenizer. Raises ModelFolderError."""
    text = read_tokenizer_json(folder.tokenizer, ModelFolderError)
    return tokenizer_of(text, folder.tokenizer, ModelFolderError)


def largest_token_id(folder: ModelFolder, tokenizer: Callable[[], tokenizers.Tokenizer]) -> int:
    """The largest id that the folder's tokenizer gives, once it has shown that it does no harm.

    Raises ModelFolderError.
    """
    text = read_tokenizer_json(folder.tokenizer, ModelFolderError)
    require_harmless(text, folder.tokenizer, ModelFolderError)
    found = largest_id(tokenizer())
    require_ids(found, found[0] + 1, folder.tokenizer, ModelFolderError)
    return found[0]


def generation_defaults(folder: ModelFolder) -> dict[str, Any]:
    """What the checkpoint's own settings say of generation: GenerationParams' fields.

    Raises ParameterError for what can't be heeded, with the file and its key.
    """
    from gpt2onnx.samplers.params.generation_config import (  # imported meanwhile
        defaults_from_generation_config,
        settings_in_force,
    )

    settings, file = settings_in_force(folder.config, folder.generation_config)
    eos = {"eos_token_id": folder.config.get("eos_token_id", GPT2_END_OF_TEXT)}
    return {**eos, **defaults_from_generation_config(settings, str(folder.path / file))}


def bos_token_id(*settings_files: Mapping[str, Any]) -> int | None:
    """The token that an empty prompt starts from, by the first file that says; None for none."""
    for settings in settings_files:
        if "bos_token_id" in settings:
            token: int | None = settings["bos_token_id"]
            return token
    return GPT2_END_OF_TEXT
