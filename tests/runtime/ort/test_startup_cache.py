from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx.errors import Gpt2OnnxError, ModelFolderError
from gpt2onnx.runtime.decoder import reads
from gpt2onnx.runtime.model import Model
from gpt2onnx.runtime.ort import provider, session_options
from gpt2onnx.runtime.ort import startup_cache as startup
from gpt2onnx.runtime.ort import startup_entries as entries
from gpt2onnx.runtime.ort import startup_forms as forms
from gpt2onnx.runtime.ort.session import How

# kernels/tests/test_startup.py has the kernels' own form.
pytestmark = pytest.mark.usefixtures("todays_graph")

# Sizes whose packed matrices come to lie at multiples of 64, as GPT-2's own do.
ALIGNED = {"n_embd": 128, "vocab_size": 320, "n_positions": 64}
KINDS: dict[str, dict[str, Any]] = {
    **{precision: {} for precision in ("fp32", "fp16", "int8", "int8-dynamic", "int4")},
    "int8, hidden states": {"with_hidden_states": True},
    "int8, attention bias": {"with_attention_bias": True},
    "int8, int8 KV cache": {"kv_cache": "int8"},
    "fp32, portable": {"graph": "portable"},
}
IDS = np.arange(30) * 7 % 257


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GPT2ONNX_STARTUP_CACHE_SIZE", raising=False)
    monkeypatch.setattr(startup, "MIN_SIZE", 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An exported model of each kind."""
    from tests.checkpoints import make_checkpoint

    made = tmp_path_factory.mktemp("aligned")
    checkpoint = make_checkpoint(made / "checkpoint", **ALIGNED)

    @cache
    def exported(kind: str) -> Path:
        precision = kind.partition(",")[0]
        out = made / kind.replace(", ", "-")
        kwargs = {"precision": precision, **KINDS[kind]}
        return gpt2onnx.export(checkpoint, out, verify=False, **kwargs).folder

    return exported


@pytest.fixture
def folder(folders: Callable[[str], Path]) -> Path:
    return folders("int8")


def load(folder: Path, **kwargs: Any) -> Model:
    return gpt2onnx.load(folder, provider="cpu", threads=1, **kwargs)


def outcome(folder: Path, **kwargs: Any) -> str:
    return load(folder, **kwargs).session.startup


def logits(model: Model) -> list[bytes]:
    """A prompt's, those of several tokens, and those of steps, alone and together."""
    decoder = model.decoder
    rows = [decoder.new_row(), decoder.new_row()]
    found = [reads.prefill(decoder, rows[0], IDS), reads.prefill(decoder, rows[1], IDS[:5])]
    found += [
        reads.extend(decoder, rows[0], IDS[:3]),
        getattr(decoder, "hidden_states", np.empty(0)),
    ]
    found += [reads.step(decoder, rows[:1], IDS[:1]), reads.step(decoder, rows, IDS[:2])]
    for row in rows:
        decoder.free(row)
    return [each.tobytes() for each in found]


def made() -> list[entries.Entry]:
    return list(startup.startup_entries())


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_logits_bit_for_bit(folders: Callable[[str], Path], kind: str) -> None:
    plain = load(folders(kind), startup_cache=False)
    assert plain.session.startup == "not used"
    assert made() == []
    first, second = load(folders(kind)), load(folders(kind))
    assert (first.session.startup, second.session.startup) == ("made", "used")
    assert logits(first) == logits(second) == logits(plain)
    (entry,) = made()
    assert entry.about["path"] == str(folders(kind).resolve())


def test_the_weights_are_mapped(folder: Path) -> None:
    load(folder)
    model = load(folder)
    (entry,) = made()
    maps = Path("/proc/self/maps").read_text()
    assert str(entry.path / forms.DATA) in maps
    assert model.session.startup == "used"


def test_a_copy_of_the_folder_uses_the_same_entry(folder: Path, tmp_path: Path) -> None:
    load(folder)
    assert outcome(Path(shutil.copytree(folder, tmp_path / "copy"))) == "used"


def test_a_folder_without_manifest_is_known_by_its_files_times(
    folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "manifest.json").unlink()
    assert (outcome(copy), outcome(copy)) == ("made", "used")
    os.utime(copy / "model.onnx.data")
    assert outcome(copy) == "made"


def test_a_folder_that_was_exported_again_throws_its_former_entry_away(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    for kind in ("int8", "fp32"):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(folders(kind), folder)
        assert (outcome(folder), outcome(folder)) == ("made", "used")
        assert [entry.about["precision"] for entry in made()] == [kind]


def another_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "OPTIMISED_FORMAT", 0)


def another_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.__version__", "1.31.0")


def another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_build_info", lambda: "git-commit-id=0")


def another_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "fingerprint", lambda: "another")


def other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {} if forms.packing_settings() else {"session.x64quantprecision": "1"}
    for module in (forms, session_options):
        monkeypatch.setattr(module, "packing_settings", lambda: settings)


def other_fusions(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = replace(provider.CPU, disabled_optimizers=("QDQS8ToU8Transformer",))
    monkeypatch.setitem(provider.KNOWN, "cpu", cpu)


@pytest.mark.parametrize(
    "change",
    [
        another_format,
        another_runtime,
        another_build,
        another_processor,
        other_settings,
        other_fusions,
    ],
)
def test_what_does_not_match_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    load(folder)
    change(monkeypatch)
    assert outcome(folder) == "made"
    assert len(made()) == 2


def test_another_number_of_threads_uses_the_same_entry(folder: Path) -> None:
    load(folder)
    assert gpt2onnx.load(folder, provider="cpu", threads=2).session.startup == "used"


def test_damage_that_times_and_sizes_hide(folder: Path) -> None:
    plain = logits(load(folder))
    (entry,) = made()
    graph = entry.path / forms.GRAPH
    stat = graph.stat()
    graph.write_bytes(b"\xff" * stat.st_size)
    os.utime(graph, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    model = load(folder)
    assert model.session.startup == "made"
    assert logits(model) == plain
    assert outcome(folder) == "used"


def test_damage_that_only_a_disk_could_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What leaves all times as they were, and ONNX Runtime can't open."""
    plain = logits(load(folder))
    (entry,) = made()
    (entry.path / forms.GRAPH).write_bytes(b"\xff" * 100)
    monkeypatch.setattr(entries.Entry, "renewed", lambda entry: entry)
    model = load(folder)
    assert model.session.startup == "damaged, and thrown away"
    assert logits(model) == plain
    assert (outcome(folder), outcome(folder)) == ("made", "used")


def test_a_truncated_data_file_is_made_again(folder: Path) -> None:
    load(folder)
    (entry,) = made()
    data = entry.path / forms.DATA
    data.write_bytes(data.read_bytes()[:-4096])
    assert (outcome(folder), outcome(folder)) == ("made", "used")


def test_matrices_that_would_lie_at_other_addresses(models: Callable[[str], Path]) -> None:
    """ONNX Runtime 1.31 gives NaN there: 257 rows of 32 are no multiple of 64."""
    for _ in range(2):
        assert "at other addresses" in outcome(models("int8"))
    (entry,) = made()
    assert entry.size == 0


def test_other_logits_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(np.arange(10.0))
    monkeypatch.setattr(
        "gpt2onnx.runtime.open_model.first_logits", lambda *_: np.array([next(numbers)])
    )
    assert "gives other logits" in outcome(folder)
    assert "gives other logits" in outcome(folder)
    (entry,) = made()
    assert entry.size == 0


def test_what_onnx_runtime_cannot_save(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr(forms, "create", refusing_to_save(forms.create))
        model = load(folder)
        assert model.session.startup == "not used: it can't be saved: no such luck"
        assert len(logits(model)) == 6
    assert (outcome(folder), outcome(folder)) == ("made", "used")  # the disk was full, and is not


def refusing_to_save(create: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(model: Any, how: How) -> Any:
        if how.setup.save_to:
            raise ModelFolderError("no such luck")
        return create(model, how)

    return refuse


def test_a_broken_model_is_told_as_without_a_cache(folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / "manifest.json").unlink()
    (broken / "model.onnx").write_bytes(b"\xff" * 100)
    messages = []
    for wanted in (False, True):
        with pytest.raises(Gpt2OnnxError) as caught:
            load(broken, startup_cache=wanted)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert made() == []
    assert list(startup.startup_entries().folder.iterdir()) == []


def test_a_cache_that_cannot_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / "file"))
    model = load(folder)
    assert model.session.startup.startswith("not used: [Errno")
    assert len(logits(model)) == 6


def test_a_cache_whose_name_onnx_runtime_cannot_be_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / os.fsdecode(b"\xff")))
    assert "expected a name in UTF-8" in outcome(folder)
    assert made() == []


def test_a_disk_that_is_almost_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "too little space" in outcome(folder)


@pytest.mark.parametrize(
    ("size", "reason"), [("0", "its size limit is 0"), ("100K", "an entry would take")]
)
def test_the_size_limit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, size: str, reason: str
) -> None:
    monkeypatch.setenv("GPT2ONNX_STARTUP_CACHE_SIZE", size)
    assert reason in outcome(folder)
    assert made() == []


def test_small_models_are_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "MIN_SIZE", 32 << 20)
    assert outcome(folder) == "not used: the model is smaller than 32 MiB"


def test_a_processor_that_nobody_knows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "fingerprint", lambda: None)
    assert "doesn't tell which processor" in outcome(folder)


def test_an_interruption_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(forms, "is_aligned", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(folder)
    assert list(startup.startup_entries().folder.iterdir()) == []


def load_in_a_process(folder: Path, barrier: Any, results: Any) -> None:
    startup.MIN_SIZE = 0
    barrier.wait(60)
    results.put(outcome(folder))


def test_two_processes_at_once(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=load_in_a_process, args=(folder, barrier, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    outcomes = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    assert outcomes in (["made", "made"], ["made", "used"])
    (entry,) = made()
    assert [path.name for path in startup.startup_entries().folder.iterdir()] == [entry.path.name]
    assert outcome(folder) == "used"
