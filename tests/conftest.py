"""What all tests share: a cache folder of their own, and small models exported once.

Files test_*_torch.py are beside PyTorch and transformers; where that isn't installed, the others
run. `--fast` leaves them out, and what takes long (LONG): the rest ends within a minute.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.errors import ProviderError
from gpt2onnx.runtime.ort.kernels import OFF, VARIABLE
from gpt2onnx.runtime.ort.provider import require_provider
from gpt2onnx.samplers import Candidates
from gpt2onnx.samplers.rows import Rows
from tests.checkpoints import make_checkpoint

TESTS = Path(__file__).parent
TORCH = find_spec("torch") is not None
# Files and folders of tests that start processes, try many calls or open many models: each of them
# takes more than two seconds.
LONG = (
    "batch",
    "benchmarks",
    "cli/commands/test_batch.py",
    "cli/commands/test_compare.py",
    "cli/commands/test_profile.py",
    "cli/commands/test_serve.py",
    "cli/test_fuzz.py",
    "cli/test_process.py",
    "compare/measure/test_job.py",
    "compare/record/test_record.py",
    "compare/runtimes/test_start.py",
    "export/checkpoint/test_hub.py",
    "export/graph/test_cuda_graph.py",
    "export/graph/test_fused.py",
    "export/quantization/test_gptq.py",
    "export/quantization/test_unpacked_int8.py",
    "export/test_damaged_tokenizers.py",
    "export/test_wrong_input.py",
    "javascript/test_parts.py",
    "page/test_render.py",
    "runtime/decoder/test_fused.py",
    "runtime/decoder/test_kv_cache.py",
    "runtime/decoding/lookahead/test_lookahead.py",
    "runtime/decoding/test_assistance.py",
    "runtime/decoding/test_contrastive.py",
    "runtime/decoding/test_speculation.py",
    "runtime/engine/test_loop.py",
    "runtime/engine/test_prefix_bits.py",
    "runtime/engine/test_prefix_cache.py",
    "runtime/engine/test_schedule.py",
    "runtime/machine/test_turns.py",
    "runtime/ort/test_startup_cache.py",
    "runtime/ort/test_startup_entries.py",
    "runtime/profiling/test_profile.py",
    "runtime/structured/test_grammars.py",
    "runtime/structured/test_json_schema.py",
    "runtime/structured/test_trial.py",
    "runtime/test_batch_invariance.py",
    "runtime/test_branch.py",
    "runtime/test_fuzz.py",
    "runtime/text/test_long_texts.py",
    "runtime/text/test_stop_strings.py",
    "samplers/beam/test_search.py",
    "server",
    "serving",
    "test_demo.py",
    "test_docs.py",
    "test_examples.py",
    "test_package.py",
    "test_public_names.py",
)

# The same examples each time where CI runs; new ones, which may find what those don't, elsewhere.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("elsewhere", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=20)
settings.load_profile("ci" if os.environ.get("CI") else "elsewhere")

# Several heads, and longer than a chunk of the prefill.
WIDE = {"n_embd": 64, "n_head": 4, "n_positions": 320}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out what takes long")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("fast"):
        settings.load_profile("fast")


def pytest_report_header() -> str | None:
    return None if TORCH else "PyTorch isn't installed: test_*_torch.py are left out"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What is left out isn't even imported: PyTorch alone takes seconds."""
    if collection_path.stem.endswith("_torch") and not TORCH:
        return True
    return True if config.getoption("fast") and is_long(collection_path) else None


def is_long(path: Path) -> bool:
    name = path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else ""
    return name in LONG or path.stem.endswith("_torch")


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


@pytest.fixture
def todays_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is told of ONNX Runtime's own operators, whatever graph the others run."""
    monkeypatch.setenv(VARIABLE, OFF)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 64 positions with random weights, 257 tokens: bytes and the end token."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def wide_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("wide"), **WIDE)


@pytest.fixture
def put_together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were narrowed and drawn from together, each time that they were."""
    counts: list[int] = []
    together = Rows.together

    def counted(rows: Sequence[Candidates]) -> Rows:
        counts.append(len(rows))
        return together(rows)

    monkeypatch.setattr(Rows, "together", counted)
    return counts


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
