"""Expects errors by their type and their fields, so that words are compared in one place alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gpt2onnx.errors import Gpt2OnnxError


@contextmanager
def raises(
    error: type[Gpt2OnnxError], **fields: object
) -> Iterator[pytest.ExceptionInfo[Gpt2OnnxError]]:
    """Within the block an error is raised of this very type, with these fields.

    Fields are attributes of the error: `path`, `name`, `named`, `parameters`, and a class's own.
    """
    assert fields, f"say which {error.__name__}, or use pytest.raises"
    with pytest.raises(error) as raised:
        yield raised
    assert type(raised.value) is error
    assert {name: getattr(raised.value, name) for name in fields} == fields, raised.value
