"""The beginning of a prompt on disk: its ids, and the keys and values that a model made of them.

A file has a header with a checksum, which says whose keys and values these are and what each
chunk's checksum is, and then the chunks. Opening it reads the header alone. A chunk is read, into
memory of its own, and compared when it is wanted: were it mapped, a file that somebody shortens
meanwhile would end the process, and one that somebody writes to would change what was compared.

    MAGIC · header's length, 8 bytes · its SHA-256 · header, in JSON · zeros up to ALIGN · chunks
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from gpt2onnx.errors import OutputExistsError, ParameterError, PrefixFileError, StorageError
from gpt2onnx.files import as_path, json_object, open_regular, path_errors
from gpt2onnx.runtime.decoder.arena import Block, CacheShape
from gpt2onnx.runtime.decoder.kv_cache import Blocks, CacheRow
from gpt2onnx.runtime.decoder.protocol import Ids
from gpt2onnx.runtime.engine.prefix_chunks import CHUNK
from gpt2onnx.staging import NEW, stage

MAGIC = b"gpt2onnx prefix\x01"
LENGTH, SHA256 = 8, 32  # bytes
ALIGN = 4096
MOST_HEADER = 1 << 26
ADVICE = "save the prompt again"


@dataclass(frozen=True)
class PrefixFile:
    """An open prefix: `ids` [n], n a multiple of CHUNK, and where their chunks are."""

    path: Path
    ids: Ids
    shape: CacheShape
    checksums: Sequence[str]
    offset: int

    def read(self, number: int) -> Block:
        """A chunk's keys and values. Raises PrefixFileError unless they are those written."""
        block = self.shape.block(CHUNK)
        with (
            open_regular(self.path, PrefixFileError) as file,
            path_errors(self.path, PrefixFileError, ADVICE),
        ):
            file.seek(self.offset + number * block.nbytes)
            read = file.readinto(_bytes(block))
        if read != block.nbytes or _sha256(block) != self.checksums[number]:
            raise PrefixFileError(
                f"{self.path}: chunk {number} is damaged; {ADVICE}", path=self.path
            )
        return block


def save_prefix(path: str | Path, cache: Blocks, row: CacheRow, ids: Ids, model: bytes) -> int:
    """Write the whole chunks of what prefill made of ids [n] in `row`; how many tokens that is.

    `model` is the digest of the model and its cache. A prefix file that is there is replaced, in
    one step. Raises ParameterError where there is no whole chunk; OutputExistsError for anything
    else that is there; StorageError.
    """
    target = as_path(path, "path", ParameterError)
    if len(ids) < CHUNK:
        raise ParameterError(
            f"a prompt of {len(ids)} tokens: expected {CHUNK} or more, which are kept as a chunk"
        )
    starts = range(0, len(ids) // CHUNK * CHUNK, CHUNK)
    blocks = [cache.read(row, start, start + CHUNK) for start in starts]
    header = {
        "model": model.hex(),
        "ids": ids[: len(blocks) * CHUNK].tolist(),
        "sha256": [_sha256(block) for block in blocks],
    }
    with path_errors(target, StorageError, "free some space or choose another place"):
        target = Path(os.path.realpath(target))  # a link stays one
        _require_replaceable(target)
        with stage(target) as folder:
            _write(folder / NEW, json.dumps(header).encode(), blocks)
            (folder / NEW).replace(target)
    return len(blocks) * CHUNK


def load_prefix(path: str | Path, model: bytes, shape: CacheShape) -> PrefixFile:
    """Open a prefix that was saved for this model and this cache. Raises PrefixFileError."""
    source = as_path(path, "path", PrefixFileError)
    with open_regular(source, PrefixFileError) as file, path_errors(source, PrefixFileError):
        header = _header(file, source)
        start, size = file.tell(), os.fstat(file.fileno()).st_size
    if header.get("model") != model.hex():
        raise PrefixFileError(
            f"{source}: of another model, or another KV cache, than this one; {ADVICE}",
            path=source,
        )
    ids, checksums = _ids(header), header.get("sha256")
    if ids is None or not isinstance(checksums, list) or len(ids) != CHUNK * len(checksums):
        raise PrefixFileError(f"{source}: its header isn't as expected; {ADVICE}", path=source)
    offset = -(-start // ALIGN) * ALIGN
    expected = offset + len(ids) * shape.token_bytes
    if size != expected:
        raise PrefixFileError(
            f"{source}: expected {expected:,} bytes, found {size:,}; {ADVICE}",
            path=source,
            found=size,
            expected=expected,
        )
    return PrefixFile(source, ids, shape, checksums, offset)


def _write(path: Path, header: bytes, blocks: Sequence[Block]) -> None:
    """Raises OSError."""
    with path.open("wb") as file:
        file.write(MAGIC + len(header).to_bytes(LENGTH, "little"))
        file.write(hashlib.sha256(header).digest() + header)
        file.write(bytes(-file.tell() % ALIGN))
        for block in blocks:
            file.write(_bytes(block))


def _header(file: BufferedReader, path: Path) -> Mapping[str, Any]:
    """The header, from the file's beginning on. Raises PrefixFileError."""
    if file.read(len(MAGIC)) != MAGIC:
        raise PrefixFileError(f"{path}: isn't a prefix that gpt2onnx saved", path=path)
    length = int.from_bytes(file.read(LENGTH), "little")
    digest, content = file.read(SHA256), file.read(min(length, MOST_HEADER))
    if len(content) != length or hashlib.sha256(content).digest() != digest:
        raise PrefixFileError(f"{path}: its header is damaged; {ADVICE}", path=path)
    return json_object(content, path, PrefixFileError)


def _ids(header: Mapping[str, Any]) -> Ids | None:
    """The header's ids [n]; None where they are none."""
    ids = header.get("ids")
    if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < 2**31 for i in ids):
        return None
    return np.array(ids, np.int64)


def _require_replaceable(target: Path) -> None:
    """Raise OutputExistsError where something is that isn't a prefix file."""
    if not target.exists():
        return
    with open_regular(target, OutputExistsError) as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise OutputExistsError(
                f"{target}: exists, and is no prefix that gpt2onnx saved; choose another place",
                path=target,
            )


def _bytes(block: Block) -> memoryview:
    """What a block takes in memory, to be read and written."""
    return block.reshape(-1).view(np.uint8).data


def _sha256(block: Block) -> str:
    return hashlib.sha256(_bytes(block)).hexdigest()
