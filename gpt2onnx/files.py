"""Reads other people's files: what is accepted, and the errors.

Everything that reads a checkpoint's, a model folder's or a user's file comes through here. A pipe,
a device or a folder in a file's place is refused without waiting for it; a size is compared with a
bound before anything is read; a byte order mark is no part of a text; and whatever the system or
Python says of a path or a file becomes one line, as the caller's kind of error.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from gpt2onnx.errors import Given, Gpt2OnnxError, shown

# The largest text or JSON file that is read whole; GPT-2's tokenizer.json has 2 MB.
MAX_TEXT_BYTES = 100_000_000
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# The byte order marks of its two kinds.
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# In JSON's text: where a lone half of a surrogate pair may be.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def as_path(value: object, what: str, error: type[Gpt2OnnxError]) -> Path:
    """A path that the system can be asked about. `what` names it: "folder", "out=".

    Raises `error` for what is no path, and for names that no file can have.
    """
    if not isinstance(value, str | os.PathLike):
        raise error(f"{what}: expected a path, got {shown(value)}", name=what)
    name = os.fspath(value)
    try:
        valid = isinstance(name, str) and name != "" and b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        said = f"{what}: expected a path, got {shown(name)}, a name that no file can have"
        raise error(said, name=what)
    return Path(name)


def unicode_name(name: str) -> str:
    """A file's name, which needn't be in UTF-8, as text that can be written as such."""
    return name.encode("utf-8", "backslashreplace").decode()


@contextmanager
def path_errors(
    path: Path | str, error: type[Gpt2OnnxError], *advice: str | Given
) -> Iterator[None]:
    """What the system says of a path, as `error` in one line; `advice` says what to do."""
    try:
        yield
    except OSError as cause:
        if cause.errno is None:  # a library's own, not the system's
            raise
        where = _text(cause.filename or path)
        said = f"{_shortened(where)}: {cause.strerror}"
        raise error(said, *(("; ", *advice) if advice else ()), path=where) from cause


@contextmanager
def open_regular(path: Path, error: type[Gpt2OnnxError]) -> Iterator[BufferedReader]:
    """A file, open for reading bytes. Raises `error` where it can't be, or isn't a regular file."""
    with path_errors(path, error):
        # Without O_NONBLOCK opening a pipe waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            os.close(descriptor)
            raise
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            kind = _KINDS.get(stat.S_IFMT(mode), "something else")
            raise error(f"{_shortened(path)}: expected a file, found {kind}", path=path)
        with os.fdopen(descriptor, "rb") as file:
            yield file


def require_regular(path: Path, error: type[Gpt2OnnxError]) -> None:
    """Raise `error` unless a regular file is there that can be read: for libraries that open it."""
    with open_regular(path, error):
        pass


def read_bytes(path: Path, error: type[Gpt2OnnxError], most: int = MAX_TEXT_BYTES) -> bytes:
    """What a file holds. Raises `error` where it can't be read or has more than `most` bytes."""
    with open_regular(path, error) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
        if (found := max(size, len(content))) > most:  # some of the system's files say 0
            raise error(
                f"{_shortened(path)}: expected at most {most:,} bytes, found {found:,}",
                path=path,
                found=found,
                expected=most,
            )
        return content


def sha256(path: Path, error: type[Gpt2OnnxError]) -> str:
    """The SHA-256 of a file of any size, in hexadecimal digits. Raises `error`."""
    with open_regular(path, error) as file, path_errors(path, error):
        return hashlib.file_digest(file, "sha256").hexdigest()


def decoded(content: bytes, name: object, error: type[Gpt2OnnxError]) -> str:
    """UTF-8 as text, without a byte order mark. Raises `error` with the first wrong byte."""
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as cause:
        byte = f"something else: byte {cause.start} is 0x{content[cause.start]:02x}"
        found = "UTF-16; save it as UTF-8" if content.startswith(_UTF16) else byte
        raise unusable(error, name, f"expected UTF-8, found {found}") from cause


def read_text(path: Path, error: type[Gpt2OnnxError], most: int = MAX_TEXT_BYTES) -> str:
    """A file's text, in UTF-8. Raises `error`, as `read_bytes` and `decoded` do."""
    return decoded(read_bytes(path, error, most), path, error)


def read_json(path: Path, error: type[Gpt2OnnxError], most: int = MAX_TEXT_BYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises `error` where there is none, and says the place."""
    content = read_bytes(path, error, most)
    return json_object(content, path, error)


def json_object(content: bytes, name: object, error: type[Gpt2OnnxError]) -> dict[str, Any]:
    """The JSON object in UTF-8. Raises `error`; `name` says where the text is from."""
    try:
        value = json.loads(decoded(content, name, error))
        if _SURROGATE.search(content):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as cause:
        place = f"line {cause.lineno}, column {cause.colno}"
        found = f"expected JSON, found a mistake at {place}: {cause.msg}"
        raise unusable(error, name, found) from cause
    except UnicodeEncodeError as cause:
        raise unusable(error, name, "expected Unicode, found half a surrogate pair") from cause
    except RecursionError as cause:
        raise unusable(error, name, "expected JSON, found it nested too deeply") from cause
    except ValueError as cause:  # a number of thousands of digits
        raise unusable(error, name, f"expected JSON, found something else: {cause}") from cause
    if not isinstance(value, dict):
        raise unusable(error, name, f"expected a JSON object, found a {type(value).__name__}")
    return value


def unusable(error: type[Gpt2OnnxError], name: object, said: str) -> Gpt2OnnxError:
    """The error for a file's text; `name` is the path, or says where else the text is from."""
    path = name if isinstance(name, Path) else None
    return error(f"{_shortened(name)}: {said}", path=path)


def _shortened(name: object) -> str:
    """A path as a message shows it: of a very long one the beginning and the end."""
    text = _text(name)
    return text if len(text) <= 300 else f"{text[:140]}…{text[-140:]}"


def _text(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)
