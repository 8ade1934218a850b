"""What these tests share: the kernels are on, whatever ran before, and the cache is their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from gpt2onnx.runtime.ort.kernels import OFF, VARIABLE


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT2ONNX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="module")
def _kernels_on() -> Iterator[None]:
    """On, though other tests of the same process run with them off; a name, as avx2, stays."""
    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get(VARIABLE) == OFF:
            patch.delenv(VARIABLE)
        yield
