"""A job's input: files, patterns of names, compressed files, standard input.

What isn't a plain file is written out into the job's folder first, so that any part of it can be
read, and read again. Knows files; knows nothing of what is in a line but whether it is JSON.
"""

from __future__ import annotations

import glob
import gzip
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from gpt2onnx.errors import Given, InstallationError, ParameterError, PromptError
from gpt2onnx.files import as_path, open_regular, path_errors, sha256

STDIN = "-"
# Bytes at once; those that are packed may become thousands of times as many.
BLOCK, PACKED = 2**20, 2**14
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Input(NamedTuple):
    """A file of the input as it was named, with the digest of what is in it."""

    name: str
    path: Path | None  # None: standard input
    form: str  # plain, gzip, zstd or stdin
    sha256: str | None  # None: standard input's, which can't be read twice


def find_inputs(given: str | Path | Sequence[str | Path]) -> list[Input]:
    """The files of names and patterns, in their order. Raises PromptError."""
    named = [given] if isinstance(given, str | os.PathLike) else list(given)
    names = [name for each in named for name in _matching(each)]
    if not names or names.count(STDIN) > 1:
        raise PromptError("no input: expected files, a pattern of their names, or - once")
    return [_input(name) for name in names]


def _matching(given: str | Path) -> list[str]:
    """A name itself, or the names that a pattern stands for."""
    name = str(given)
    if name == STDIN:
        return [name]
    if as_path(given, "input", PromptError).exists() or not glob.has_magic(name):
        return [name]
    found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - absolute ones, too
    if not found:
        raise PromptError(f"{name}: no file has such a name")
    return found


def _input(name: str) -> Input:
    if name == STDIN:
        return Input("standard input", None, "stdin", None)
    path = Path(os.path.realpath(name))  # Path.resolve raises RuntimeError for links in a circle
    with open_regular(path, PromptError) as file, path_errors(path, PromptError):
        magic = file.read(4)
    if magic.startswith(_UTF16):
        raise PromptError(f"{name}: expected UTF-8, found UTF-16; save it as UTF-8")
    form = "gzip" if magic.startswith(_GZIP) else "zstd" if magic == _ZSTD else "plain"
    return Input(name, path, form, sha256(path, PromptError))


def written_out(each: Input, target: Path, is_there: bool) -> Path:
    """The plain file of an input: itself, or what is made of it at `target`, if it isn't there.

    Raises PromptError for what can't be read, OSError for what can't be written.
    """
    if each.form == "plain" and each.path:
        return each.path
    if is_there:
        return target
    with target.open("wb") as out:
        for block in _blocks(each):
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return target


def _blocks(each: Input) -> Iterator[bytes]:
    """What is in an input, unpacked, block by block. Raises PromptError."""
    if each.path is None:
        if sys.stdin is None or sys.stdin.isatty():
            raise PromptError("standard input: expected lines, this is a terminal")
        yield from iter(partial(sys.stdin.buffer.read, BLOCK), b"")
        return
    unpacked = {"gzip": _gzip_blocks, "zstd": _zstd_blocks}[each.form]
    with open_regular(each.path, PromptError) as file, path_errors(each.path, PromptError):
        try:
            yield from unpacked(file)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise PromptError(
                f"{each.name}: expected {each.form}, found it damaged: {error}"
            ) from error


def _gzip_blocks(file: BufferedReader) -> Iterator[bytes]:
    with gzip.open(file) as unpacked:
        yield from iter(partial(unpacked.read, BLOCK), b"")


def _zstd_blocks(file: BufferedReader) -> Iterator[bytes]:
    """Frame by frame; zstandard's own reader says nothing of one that ends too soon."""
    zstd = _zstd()
    frame = None
    while packed := file.read(PACKED):
        while packed:
            frame = frame or zstd.ZstdDecompressor().decompressobj()
            try:
                yield frame.decompress(packed)
            except zstd.ZstdError as error:
                raise EOFError(error) from error
            packed = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame:
        raise EOFError("it ends too soon")


def _zstd() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise InstallationError(
            "a file in zstd needs a package that is missing: pip install 'gpt2onnx[batch]'"
        ) from error
    return zstandard


def form_of_lines(given: str, files: Sequence[Path]) -> str:
    """What lines hold: "json" or "text", as asked for, or as the first line of all looks."""
    if given not in ("auto", "json", "text"):
        raise ParameterError(Given("lines", given), ": expected auto, json or text")
    if given != "auto":
        return given
    for path in files:
        with open_regular(path, PromptError) as file:
            while piece := file.readline(2**16).removeprefix(b"\xef\xbb\xbf"):
                if piece.strip():
                    return "json" if piece.lstrip().startswith(b"{") else "text"
    return "json"
