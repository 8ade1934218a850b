"""Whole models in the kernels' graph: against transformers, and against today's graph."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gpt2onnx_kernels
import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from transformers import GPT2LMHeadModel

import gpt2onnx
from gpt2onnx.agreement import Agreement
from gpt2onnx.cli import main
from gpt2onnx.compare.measure.placement import measure as measure_placement
from gpt2onnx.compare.record.answers import Ran
from gpt2onnx.demo import CHECKPOINT
from gpt2onnx.errors import CacheFullError, ModelFolderError, ParameterError, VerificationError
from gpt2onnx.export.verification import verify
from gpt2onnx.runtime.decoder import bound_layout, reads
from gpt2onnx.runtime.decoder.binding import Binding
from gpt2onnx.runtime.decoder.flat import FlatDecoder
from gpt2onnx.runtime.decoder.fused import FusedDecoder
from gpt2onnx.runtime.decoder.protocol import EVERY, Read
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.ort.kernels import VERSION
from gpt2onnx.runtime.profiling import roofline
from gpt2onnx.runtime.profiling.profile import profile
from gpt2onnx.runtime.profiling.work import Work
from gpt2onnx.serving.engine import Engine
from tests.checkpoints import make_checkpoint
from tests.compare.jobs import a_job
from tests.kernels_graph import as_of_version
from tests.raising import raises

IDS = np.random.default_rng(0).integers(0, 257, 60)
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "odd sizes": {"n_embd": 39, "n_head": 3, "n_inner": 71},
    "untied": {"tie_word_embeddings": False},
    "unscaled": {"scale_attn_weights": False, "n_embd": 16},
    "inverse layers": {"scale_attn_by_inverse_layer_idx": True, "layer_norm_epsilon": 1e-3},
    **{name: {"activation_function": name} for name in ("gelu", "gelu_10", "laplace", "mish")},
    **{name: {"activation_function": name} for name in ("relu", "relu2", "relu6", "sigmoid")},
    **{name: {"activation_function": name} for name in ("silu", "tanh", "quick_gelu", "linear")},
    "leaky_relu": {"activation_function": "leaky_relu"},
}


def opened(folder: Path, graph: str = "kernels") -> Any:
    return gpt2onnx.load(folder, provider="cpu", threads=2, startup_cache=False, graph=graph)


def exported(checkpoint: Path, out: Path, **options: Any) -> Path:
    return gpt2onnx.export(checkpoint, out, verify=False, **options).folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint in every precision and cache that there are kernels for."""
    place = tmp_path_factory.mktemp("models")
    checkpoint = make_checkpoint(place / "checkpoint", n_embd=64)
    extras = {"with_hidden_states": True, "with_attention_bias": True}
    return {
        f"{precision} {cache}": exported(
            checkpoint,
            place / f"{precision}-{cache}",
            precision=precision,
            kv_cache=cache,
            **extras,
        )
        for precision in ("fp32", "int8", "int4")
        for cache in ("float", "float16", "int8")
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_fp32_is_transformers(name: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", **CONFIGS[name])
    torch_model = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    with torch.inference_mode():
        expected = torch_model(torch.from_numpy(IDS[None])).logits[0].numpy()
    decoder = opened(exported(checkpoint, tmp_path / "model", precision="fp32")).decoder
    assert isinstance(decoder, FlatDecoder)
    found = reads.extend(decoder, decoder.new_row(), IDS)
    size = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=4e-5 * size)


@pytest.mark.parametrize(
    "kind",
    ["fp32 float", "int8 float", "int4 float", "int8 float16", "int4 float16", "int8 int8"],
)
def test_logits_are_near_todays_graph(kind: str, folders: dict[str, Path]) -> None:
    found, today = (opened(folders[kind], graph).decoder for graph in ("kernels", "onnx"))
    (ours,), (theirs,) = (each.read([Read(each.new_row(), IDS, EVERY)]) for each in (found, today))
    logits = ours.logits, theirs.logits
    limit = {"fp32": 2e-5, "int8": 0.03, "int4": 0.15}[kind.split()[0]]
    if kind == "int8 int8":  # a number between two steps of the cache goes to one in each
        limit = 0.06
    assert np.abs(logits[0] - logits[1]).max() <= limit * np.abs(logits[1]).max()
    np.testing.assert_allclose(ours.hidden, theirs.hidden, atol=limit * np.abs(theirs.hidden).max())


@pytest.mark.parametrize(
    "kind",
    [
        *("fp32 float", "int8 float", "int4 float", "int8 float16", "int4 float16"),
        *("fp32 int8", "int8 int8"),
    ],
)
def test_steps_and_chunks_have_the_prompts_bits(kind: str, folders: dict[str, Path]) -> None:
    decoder = opened(folders[kind]).decoder
    whole = reads.extend(decoder, decoder.new_row(), IDS)
    row = decoder.new_row()
    parts = [reads.extend(decoder, row, IDS[:7]), reads.extend(decoder, row, IDS[7:30])]
    parts += [reads.step(decoder, [row], token[None]) for token in IDS[30:]]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    last = decoder.new_row()
    assert reads.prefill(decoder, last, IDS).tobytes() == whole[-1].tobytes()


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_hidden_states_change_no_bit_and_have_every_processors(
    precision: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_them = folders[f"{precision} float"]
    how = {"precision": precision, "kv_cache": "float"}
    without = exported(with_them.parent / "checkpoint", tmp_path / "model", **how)
    plain_decoder = opened(without).decoder
    assert plain_decoder.hidden_size == 0
    plain = reads.extend(plain_decoder, plain_decoder.new_row(), IDS)
    every = []
    for name in gpt2onnx_kernels.kernels_here():
        monkeypatch.setenv(gpt2onnx_kernels.KERNELS_VARIABLE, name)
        decoder = opened(with_them).decoder
        (whole,) = decoder.read([Read(decoder.new_row(), IDS, EVERY)])
        row = decoder.new_row()
        parts = [decoder.read([Read(row, ids, EVERY)])[0] for ids in (IDS[:1], IDS[1:9], IDS[9:])]
        assert np.concatenate([part.hidden for part in parts]).tobytes() == whole.hidden.tobytes()
        every.append(whole)
    for each in every:
        assert each.logits.tobytes() == plain.tobytes()
        assert each.hidden.tobytes() == every[0].hidden.tobytes()


def test_contrastive_search_has_the_same_bits_beside_others(folders: dict[str, Path]) -> None:
    model = opened(folders["int8 float"])
    ways: list[dict[str, Any]] = [
        {"penalty_alpha": 0.6, "top_k": 4},
        {"do_sample": True, "seed": 3},
        {"num_beams": 3},
        {"penalty_alpha": 0.3, "top_k": 3},
    ]
    asked = [("abcabcabc"[place:], {"max_new_tokens": 12} | way) for place, way in enumerate(ways)]
    alone = [model.generate(prompt, **way) for prompt, way in asked]
    with Engine(model) as engine:
        handles = [engine.submit(prompt, **way) for prompt, way in asked]
        assert [handle.result(60) for handle in handles] == alone


def test_a_cache_of_halves_is_half_as_large_and_hardly_seen(folders: dict[str, Path]) -> None:
    whole, halves = (opened(folders[f"fp32 {cache}"]).decoder for cache in ("float", "float16"))
    assert halves.cache.shape.dtype == np.float16
    assert 2 * halves.cache.shape.token_bytes == whole.cache.shape.token_bytes
    expected, found = (reads.extend(each, each.new_row(), IDS) for each in (whole, halves))
    agreement = Agreement()
    agreement.add(expected, found)
    assert 0 < agreement.kl_mean < 1e-5
    today = opened(folders["fp32 float16"], "onnx").decoder
    assert today.cache.shape.dtype == np.float32


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", np.float32), ("int8", np.float16), ("int4", np.float16)]
)
def test_the_default_cache_is_of_half_precision_in_this_graph_alone(
    precision: str, dtype: type, folders: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = folders["fp32 float"].parent / "checkpoint"
    folder = exported(checkpoint, tmp_path / "model", precision=precision)
    assert opened(folder).decoder.cache.shape.dtype == dtype
    assert opened(folder, "onnx").decoder.cache.shape.dtype == np.float32


def test_a_text_that_is_scored_has_the_bits_of_writing_it(folders: dict[str, Path]) -> None:
    model = opened(folders["fp32 float"])
    written = model.generate("abcabc", max_new_tokens=30, eos_token_id=[])
    scored = model.score(written.prompt_token_ids + written.token_ids, add_bos=False)
    assert scored.logprobs[-30:] == written.logprobs


def test_an_export_verifies_the_kernels_graph_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpt2onnx.export(CHECKPOINT, tmp_path / "model", precision="fp32", kv_cache="float16")
    monkeypatch.setitem(verify.CACHE_KL, "float16", -1e-5)  # fp32's own is 1e-5
    with raises(VerificationError, name="fp32", expected=0):
        gpt2onnx.export(CHECKPOINT, tmp_path / "other", precision="fp32", kv_cache="float16")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_step_tells_what_is_asked_of_each_row(folders: dict[str, Path]) -> None:
    """Sums at a row's own temperature, and of what its own top-p leaves."""
    decoder = opened(folders["fp32 float"]).decoder
    asked = [(1.0, 0.0), (0.5, 0.0), (0.5, 0.2), (2.0, 0.4)]
    rows = [decoder.new_row() for _ in asked]
    for _ in range(2):  # with another layout, too
        found = decoder.read(
            [
                Read(row, IDS[place : place + 1], temperature=t, outside=outside)
                for place, (row, (t, outside)) in enumerate(zip(rows, asked, strict=True))
            ]
        )
        for result, (t, outside) in zip(found, asked, strict=True):
            (top,), logits = result.top_logits, result.logits[0]
            weights = np.exp((logits - logits.max()).astype(np.float64) / t)
            assert top.has_border == (outside > 0)
            if top.has_border:
                rising = np.sort(weights)
                least = rising.cumsum().searchsorted(outside * weights.sum(), "right")
                assert weights[logits == top.border] == rising[least]
                weights[logits < top.border] = 0
            blocks = np.add.reduceat(weights, np.arange(0, len(logits), 256))
            np.testing.assert_allclose(top.sums, blocks, rtol=1e-5)
        asked = asked[1:] + asked[:1]


def test_rows_do_not_meet_and_keep_no_order(folders: dict[str, Path]) -> None:
    decoder = opened(folders["int8 float"]).decoder
    rows = [decoder.new_row() for _ in range(4)]
    for row, length in zip(rows, (3, 20, 11, 40), strict=True):
        reads.prefill(decoder, row, IDS[:length])
    together = reads.step(decoder, [rows[2], rows[0], rows[3]], IDS[[5, 6, 7]])
    for place, number in enumerate((2, 0, 3)):
        decoder.truncate(rows[number], rows[number].length - 1)
        alone = reads.step(decoder, [rows[number]], IDS[[5 + place]])
        assert alone[0].tobytes() == together[place].tobytes()


def test_a_freed_row_leaves_a_hole_and_the_next_row_takes_it(folders: dict[str, Path]) -> None:
    decoder = opened(folders["int8 float"]).decoder
    rows = [decoder.new_row() for _ in range(3)]
    for row in rows:
        reads.prefill(decoder, row, IDS[:20])
    expected = reads.step(decoder, rows[2:], IDS[20:21])
    decoder.truncate(rows[2], 20)
    decoder.free(rows[0])
    assert [row.index for row in decoder.cache.rows] == [1, 2]
    assert reads.step(decoder, rows[2:], IDS[20:21]).tobytes() == expected.tobytes()
    taken = decoder.new_row()
    assert taken.index == 0
    reads.prefill(decoder, taken, IDS[:20])
    assert reads.step(decoder, [taken], IDS[20:21]).tobytes() == expected.tobytes()
    for row in (taken, *rows[1:]):
        decoder.free(row)
    assert decoder.cache.arena is None


def test_a_run_that_was_told_only_a_part_leaves_nothing_behind(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = opened(folders["int8 float"]).decoder
    rows = [decoder.new_row() for _ in range(2)]
    for row, ids in zip(rows, (IDS[:20], IDS[30:50]), strict=True):
        reads.prefill(decoder, row, ids)
    expected = reads.step(decoder, rows[:1], IDS[20:21])
    decoder.truncate(rows[0], 20)
    feed = Binding.feed

    def fail_at_the_second(self: Binding, name: str, value: Any) -> None:
        if name == "logits_index":
            raise MemoryError
        feed(self, name, value)

    with monkeypatch.context() as patched:
        patched.setattr(Binding, "feed", fail_at_the_second)
        with pytest.raises(MemoryError):
            reads.step(decoder, rows[1:], IDS[50:51])
    assert reads.step(decoder, rows[:1], IDS[20:21]).tobytes() == expected.tobytes()
    behind = reads.step(decoder, rows[1:], IDS[50:51])
    whole = reads.extend(decoder, decoder.new_row(), IDS[30:51])
    assert behind[-1].tobytes() == whole[-1].tobytes()


def test_a_run_of_a_known_layout_that_fails_is_forgotten(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = opened(folders["int8 float"]).decoder
    row = decoder.new_row()
    reads.prefill(decoder, row, IDS[:20])
    expected = [reads.step(decoder, [row], IDS[[place]]).tobytes() for place in (20, 21)]
    decoder.truncate(row, 20)
    feed = Binding.feed

    def fail_at_the_places(self: Binding, name: str, value: Any) -> None:
        if name == "slots":
            raise MemoryError
        feed(self, name, value)

    for place in (20, 21):
        with monkeypatch.context() as patched:
            patched.setattr(Binding, "feed", fail_at_the_places)
            with pytest.raises(MemoryError):
                reads.step(decoder, [row], IDS[40:41])
        assert row.length == place
        assert reads.step(decoder, [row], IDS[[place]]).tobytes() == expected[place - 20]


def test_pieces_of_any_lengths_in_turn_give_what_the_whole_gives(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound_layout, "KEPT", 3)  # fewer than there are lengths
    decoder = opened(folders["fp32 float"]).decoder
    whole = reads.extend(decoder, decoder.new_row(), IDS[:60])
    row, found = decoder.new_row(), []
    while row.length < 60:
        count = min((3, 1, 4, 1, 5, 9, 2, 6)[len(found) % 8], 60 - row.length)
        found.append(reads.extend(decoder, row, IDS[row.length : row.length + count]))
    assert np.concatenate(found).tobytes() == whole.tobytes()


def test_a_branch_is_read_as_if_it_were_alone(folders: dict[str, Path]) -> None:
    decoder = opened(folders["fp32 float"]).decoder
    row = decoder.new_row()
    reads.prefill(decoder, row, IDS[:10])
    # Two ways on: 20 then 21, and 22 then 23.
    attention_mask = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], bool)
    found = reads.branch(decoder, row, np.array([20, 21, 22, 23]), attention_mask, np.array([1, 3]))
    decoder.accept(row, 10, np.array([2, 3]))
    behind = reads.step(decoder, [row], np.array([24]))
    for logits, way in zip(found, ([20, 21], [22, 23]), strict=True):
        alone = decoder.new_row()
        reads.prefill(decoder, alone, IDS[:10])
        np.testing.assert_allclose(
            reads.extend(decoder, alone, np.array(way))[-1], logits, atol=1e-4
        )
    np.testing.assert_allclose(reads.step(decoder, [alone], np.array([24])), behind, atol=1e-4)


def test_a_full_row_is_refused(folders: dict[str, Path]) -> None:
    decoder = opened(folders["fp32 float"]).decoder
    row = decoder.new_row()
    reads.prefill(decoder, row, IDS)
    with raises(CacheFullError, found=len(IDS) + 5):
        reads.prefill(decoder, row, IDS[:5])


def test_every_strategy_writes_todays_text(folders: dict[str, Path]) -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"do_sample": True, "seed": 3},
        {"num_beams": 3},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"guidance_scale": 1.5},
        {"prompt_lookup_num_tokens": 4},
    ]
    for way in ways:
        texts = [
            opened(folders["fp32 float"], graph).generate("abcabcabc", max_new_tokens=12, **way)
            for graph in ("kernels", "onnx")
        ]
        assert texts[0].text == texts[1].text, way


def test_what_there_is_decides_and_says_so(folders: dict[str, Path], tmp_path: Path) -> None:
    model = opened(folders["int8 float"], "auto")
    assert isinstance(model.decoder, FlatDecoder)
    assert model.session.choice.endswith(" kernels")
    assert not isinstance(opened(folders["int8 float"], "onnx").decoder, FlatDecoder)
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    dynamic = exported(checkpoint, tmp_path / "dynamic", precision="int8-dynamic")
    assert not isinstance(opened(dynamic, "auto").decoder, FlatDecoder)
    with raises(ModelFolderError, path=dynamic, name="model.kernels.onnx"):
        opened(dynamic, "kernels")
    with raises(ParameterError, parameters={"graph": "fast"}):
        opened(dynamic, "fast")


def test_a_graph_of_an_earlier_version_gives_way_to_todays(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpt2onnx_kernels.OPSET == VERSION
    folder = as_of_version(VERSION - 1, folders["int8 float"], tmp_path / "earlier")
    model = opened(folder, "auto")
    assert isinstance(model.decoder, FusedDecoder)
    reason = f"{folder}/model.kernels.onnx is of version {VERSION - 1}, this gpt2onnx runs "
    assert f"cpu, as asked; not model.kernels.onnx: {reason}" in model.session.choice
    plain = opened(folders["int8 float"], "onnx").generate("abc", max_new_tokens=8)
    assert model.generate("abc", max_new_tokens=8) == plain
    with raises(ModelFolderError, path=folder, name="model.kernels.onnx"):
        opened(folder, "kernels")
    main(["inspect", str(folder), "--json"])
    kernels = json.loads(capsys.readouterr().out)["kernels"]
    assert kernels["name"] is None
    assert kernels["reason"].startswith(reason)


def test_profile_and_inspect_show_them(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile by the operators' names; of today's graph's weights, and what corrects products."""
    monkeypatch.setattr(roofline, "ROUND", 1 << 20)
    folder, work = open_folder(folders["int8 float"]), Work(20, 10, 2)
    today, found = (
        profile(folder, work, "cpu", threads=1, graph=graph) for graph in ("onnx", "kernels")
    )
    name = gpt2onnx_kernels.kernels_here()[0]
    assert (today.kernels, found.kernels) == (None, name)
    calls = {each.operator: each.calls for each in found.decode.operators}
    ours = {"Linear": 4 * 2 + 1, "Attention": 2, "Embed": 1, "TopLogits": 1}
    assert calls == ours
    assert found.cache_bytes_per_token == today.cache_bytes_per_token
    path = folders["int8 float"] / "model.kernels.onnx"
    stored = onnx.load(path, load_external_data=False).graph.initializer
    corrections = [each for each in stored if ".directions_" in each.name or ".correc" in each.name]
    halves = [each for each in stored if each.name.endswith(".weight_scales")]
    added = sum(map(bytes_of, corrections)) - sum(map(bytes_of, halves))  # which today's are wide
    assert found.weight_bytes == pytest.approx(today.weight_bytes + added, rel=0.01)
    for phase in (found.prompt, found.decode):
        bounds = {
            "memory": phase.bytes_read / found.bandwidth,
            "arithmetic": phase.operations / found.arithmetic,
        }
        assert phase.roofline_ms == pytest.approx(1e3 * max(bounds.values()))
        assert bounds[phase.bound] == max(bounds.values())
    main(["inspect", str(folder.path), "--json"])
    cache = {
        "bytes_per_token": found.cache_bytes_per_token,
        "bytes_at_full_length": found.cache_bytes_per_token * folder.n_positions,
    }
    kernels = {"graph": "model.kernels.onnx", "name": name, "reason": None, "kv_cache": cache}
    assert json.loads(capsys.readouterr().out)["kernels"] == kernels


def bytes_of(tensor: onnx.TensorProto) -> int:
    return helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * math.prod(tensor.dims)


def test_a_comparison_tells_where_they_ran(folders: dict[str, Path]) -> None:
    found = measure_placement(
        a_job("placement", folder=str(folders["int8 float"]), graph="kernels")
    )
    assert found.ran == Ran("cpu", share=1.0, copies=0, captured=False)
    assert found.nodes["cpu"]["Attention"] == 2  # its layers
    assert "GroupQueryAttention" not in found.nodes["cpu"]
