"""The prefix cache of an open model: its blocks, and the digest that its prefixes bear."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2onnx.errors import Given, ParameterError
from gpt2onnx.runtime.decoder.protocol import Decoder, Ids
from gpt2onnx.runtime.decoder.reads import prefill
from gpt2onnx.runtime.engine.prefix_chunks import CHUNK, model_digest
from gpt2onnx.runtime.folder.model_folder import ModelFolder
from gpt2onnx.runtime.machine.sizes import parse_size
from gpt2onnx.runtime.ort.session import Session

if TYPE_CHECKING:
    from gpt2onnx.runtime.engine.prefix_cache import PrefixCache


class ModelPrefixes:
    """Makes and reads prefixes of one model's prompts."""

    def __init__(self, folder: ModelFolder, session: Session, decoder: Decoder[Any]) -> None:
        self._folder, self._session = folder, session
        self._decoder: Any = decoder

    def cache(self, size: str | int) -> PrefixCache | None:
        """A prefix cache of that size; None for none. Raises ParameterError."""
        if not parse_size(size, Given("prefix_cache", size)):
            return None
        from gpt2onnx.runtime.engine.prefix_cache import PrefixCache  # a lone call has none

        self._require_blocks()
        return PrefixCache(_Blocks(self._decoder), self._digest(), size)

    def save(self, path: str | Path, ids: Ids) -> int:
        """Read a prompt [n], and keep it on disk: how many of its tokens that is.

        Raises ParameterError for a prompt of less than one chunk; as `save_prefix`.
        """
        from gpt2onnx.runtime.engine.prefix_file import save_prefix  # few need it

        self._require_blocks()
        if len(ids) < CHUNK:
            raise ParameterError(
                Given("prompt"),
                f" has {len(ids)} tokens: expected at least {CHUNK}, of which prefixes are made",
            )
        row = self._decoder.new_row()
        try:
            prefill(self._decoder, row, ids)
            return save_prefix(path, _Blocks(self._decoder), row, ids, self._digest())
        finally:
            self._decoder.free(row)

    def _digest(self) -> bytes:
        identity = {"files": self._folder.identity(), "ran by": self._session.choice}
        return model_digest(identity, self._decoder.cache.shape)

    def _require_blocks(self) -> None:
        if not hasattr(self._decoder, "cache"):
            raise ParameterError(
                "a graph in standard operators has no cache that prefixes could be copied to: "
                "export the model without portable=True (--portable)"
            )


class _Blocks:
    """A decoder's cache, read and written in the decoder's turns."""

    def __init__(self, decoder: Any) -> None:
        self.shape = decoder.cache.shape
        self.read, self.write = decoder.read_block, decoder.write_blocks
