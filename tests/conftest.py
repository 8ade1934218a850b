"""What all tests share: a cache folder of their own, and small models exported once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.errors import ProviderError
from gpt2onnx.runtime.ort.kernels import OFF, VARIABLE
from gpt2onnx.runtime.ort.provider import require_provider

# The same examples each time where CI runs; new ones, which may find what those don't, elsewhere.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")

# Several heads, and longer than a chunk of the prefill.
WIDE = {"n_embd": 64, "n_head": 4, "n_positions": 320}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is marked `cuda` is skipped where CUDA can't run, and for nothing else."""
    if item.get_closest_marker("cuda"):
        try:
            require_provider("cuda")
        except ProviderError as error:
            pytest.skip(str(error))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests never read or write the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT2ONNX_CACHE", str(tmp_path_factory.mktemp("cache")))
        # kernels/tests run the optional operators; `GPT2ONNX_KERNELS= scripts/test` does here, too.
        if VARIABLE not in os.environ:
            patch.setenv(VARIABLE, OFF)
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 64 positions with random weights, 257 tokens: bytes and the end token."""
    from tests.checkpoints import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def wide_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.checkpoints import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("wide"), **WIDE)


@pytest.fixture(scope="session")
def models(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The model folder of `checkpoint` in a precision."""
    return _exporter(checkpoint, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def wide_models(
    wide_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """The model folder of `wide_checkpoint` in a precision, and with a KV cache by name."""
    return _exporter(wide_checkpoint, tmp_path_factory.mktemp("wide-models"))


def _exporter(checkpoint: Path, out: Path) -> Callable[..., Path]:
    @cache
    def exported(precision: str, kv_cache: str = "float") -> Path:
        place = out / f"{precision}-{kv_cache}"
        options: dict[str, Any] = {"precision": precision, "kv_cache": kv_cache}
        return gpt2onnx.export(checkpoint, place, verify=False, **options).folder

    return exported


@pytest.fixture(scope="session")
def _fp32(models: Callable[[str], Path]) -> Model:
    return gpt2onnx.load(models("fp32"), threads=1)


@pytest.fixture
def model(_fp32: Model) -> Iterator[Model]:
    """`checkpoint` in fp32, opened once. A test must give back every row."""
    yield _fp32
    assert _fp32.decoder.cache.rows == []
    assert _fp32.decoder.cache.arena is None


@pytest.fixture(scope="session")
def reference(checkpoint: Path) -> Any:
    """`checkpoint` in transformers."""
    return torch_model(checkpoint)


def torch_model(checkpoint: Path) -> Any:
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(1)
    return GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
