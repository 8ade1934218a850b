"""The `tokenizers` library's errors as this package's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from gpt2onnx.errors import Gpt2OnnxError


@contextmanager
def library_errors(
    error: type[Gpt2OnnxError], what: str, path: Path | None = None
) -> Iterator[None]:
    """Whatever the library says, as `error` in one line that begins with `what`, with its `path`.

    It raises plain Exception and, where its Rust code panics, PanicException: a BaseException that
    can be known by its module's name alone. What isn't the library's passes.
    """
    try:
        yield
    except BaseException as cause:
        raise_named(cause, error, what, path)


def raise_named(
    cause: BaseException, error: type[Gpt2OnnxError], what: str, path: Path | None = None
) -> NoReturn:
    """Raise what `library_errors` makes of `cause`: for what is called for each token."""
    own = isinstance(cause, Gpt2OnnxError | MemoryError)
    if own or not (isinstance(cause, Exception) or is_panic(cause)):
        raise cause
    raise error(f"{what}: {cause!s:.300}", path=path) from cause


def is_panic(raised: BaseException) -> bool:
    """Whether Rust code panicked; KeyboardInterrupt and SystemExit are none."""
    return type(raised).__module__ == "pyo3_runtime"
