from __future__ import annotations

from typing import Any

import pytest

from benchmarks.report import BEGIN, END, bars_table, markdown, write_between_markers
from benchmarks.results import BARS, Bar, Result
from benchmarks.variants import PRECISIONS, Variant, others, ours


def variant(name: str, bits: int = 8, **figures: float) -> dict[str, Any]:
    """One of bench.json's."""
    measured = {
        figure: {"median": value, "rounds": [value], "agreement": None}
        for figure, value in figures.items()
    }
    return {
        "name": name,
        "bits": bits,
        "ours": name.startswith("gpt2onnx"),
        "rival": not name.startswith("gpt2onnx"),
        "left_out": None,
        "figures": measured,
        "missing": {},
        "requirements": ["engine==1.0"],
        "settings": {},
    }


def test_a_result_keeps_every_round_and_gives_their_median() -> None:
    result = Result(others()[0])
    for value in (3.0, 1.0, 2.0):
        result.add({"load_s": value})
    result.agreements["load_s"] = {"top1": 0.5, "at_least": False}
    assert result.as_json()["figures"] == {
        "load_s": {
            "median": 2.0,
            "rounds": [3.0, 1.0, 2.0],
            "agreement": {"top1": 0.5, "at_least": False},
        }
    }


def test_a_ratio_is_against_the_best_other_of_as_many_bits() -> None:
    variants = [
        variant("gpt2onnx int8", decode_32_ms=2.0),
        variant("slow", decode_32_ms=10.0),
        variant("fast", decode_32_ms=5.0),
        variant("our graph", decode_32_ms=1.0) | {"rival": False},
        variant("coarse", bits=4, decode_32_ms=3.0),
    ]
    found = Bar("decode", "decode_32_ms", ("int8",), 2.0).measure(variants)
    assert (found["best_other"], found["ratio"], found["met"]) == ("fast", 2.5, True)
    found = Bar("decode", "decode_32_ms", ("int8",), 2.0, least_bits=4).measure(variants)
    assert (found["best_other"], found["ratio"], found["met"]) == ("coarse", 1.5, False)


def test_what_is_to_reach_stands_as_it_is_asked_for() -> None:
    """Not rounded below it: 1.15 isn't reached by 1.12."""
    variants = [variant("gpt2onnx int8", prompt_512_ms=1.0), variant("other", prompt_512_ms=1.12)]
    found = Bar("prompt", "prompt_512_ms", ("int8",), 1.15).measure(variants)
    assert "| prompt | gpt2onnx int8 | other | 1.12 | 1.15 | no |" in bars_table([found])


def test_of_tokens_a_second_more_is_better() -> None:
    figure = "batch_8_tokens_per_s"
    variants = [
        variant("gpt2onnx int8", **{figure: 100.0}),
        variant("gpt2onnx int4", **{figure: 900.0}),
        variant("other", **{figure: 200.0}),
    ]
    found = Bar("batch", figure, ("int8",), 2.0).measure(variants)
    assert (found["ours"], found["ratio"], found["met"]) == ("gpt2onnx int8", 0.5, False)


def test_a_limit_is_for_the_figure_itself() -> None:
    variants = [variant("gpt2onnx int8", resident_mb=190.0), variant("other", resident_mb=95.0)]
    found = Bar("memory", "resident_mb", ("int8",), limit=200.0).measure(variants)
    assert (found["ratio"], found["met"]) == (0.5, True)


def test_without_an_other_nothing_is_said() -> None:
    found = Bar("decode", "decode_32_ms", ("int8",), 2.0).measure([variant("gpt2onnx int8")])
    assert (found["ratio"], found["met"]) == (None, None)


def test_bars_name_precisions_that_there_are() -> None:
    assert {name for bar in BARS for name in bar.ours} <= set(PRECISIONS)


def test_the_kernels_rows_stand_beside_todays() -> None:
    today, beside = ours("int8"), ours("int8-kernels")
    assert (today.name, beside.name) == ("gpt2onnx int8", "gpt2onnx int8-kernels")
    assert (today.options, beside.options) == ({"graph": "onnx"}, {"graph": "kernels"})
    assert (today.first_token[-1], beside.first_token[-1]) == ("onnx", "kernels")
    assert (today.convert, today.bits) == (beside.convert, beside.bits)
    assert today.environment.requirements == beside.environment.requirements
    assert (ours("fp32-kernels").bits, ours("int4-kernels").bits) == (32, 4)


def test_every_variant_has_a_name_and_a_folder_of_its_own() -> None:
    variants: list[Variant] = [*others(), *map(ours, PRECISIONS)]
    assert len({each.slug for each in variants}) == len(variants)


def found(*variants: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": {
            "processor": "A CPU",
            "features": ["avx2"],
            "cores": 2,
            "memory_gb": 8.0,
            "system": "Linux",
            "python": "3.11",
        },
        "checkpoint": {"n_layer": 12, "n_embd": 768, "vocab_size": 50257},
        "settings": {
            "threads": 2,
            "rounds": 3,
            "quick": False,
            "seconds": 60,
            "load_before": 0.1,
            "started": "2026-01-02T03:04:05+00:00",
        },
        "reference": "other",
        "variants": list(variants),
        "bars": [bar.measure(list(variants)) for bar in BARS],
    }


def test_the_table_has_agreement_beside_each_time_and_names_what_is_missing() -> None:
    mine = variant("gpt2onnx int8", decode_32_ms=2.0, top1=0.985)
    mine["figures"]["decode_32_ms"]["agreement"] = {"top1": 0.94, "at_least": False}
    other = variant("other", decode_32_ms=4.0)
    other["figures"]["decode_32_ms"]["agreement"] = {"top1": 0.5, "at_least": True}
    other["missing"] = {"batch_8_tokens_per_s": "one row alone"}
    gone = variant("gone") | {"left_out": "no matching distribution"}
    text = markdown(found(mine, other, gone))
    assert "| **gpt2onnx int8** | 2.00 (94%) |" in text
    assert "| other | 4.00 (≥ 50%) |" in text
    assert "98.5%" in text
    assert "| decode at 32, int8 | gpt2onnx int8 | other | 2.00 | 2.0 | yes |" in text
    assert "- left out: gone: no matching distribution" in text
    assert "- other has no batch_8_tokens_per_s: one row alone" in text


def test_the_table_replaces_what_stands_between_the_marks(tmp_path: Any) -> None:
    file = tmp_path / "benchmarks.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_between_markers(file, "new")
    write_between_markers(file, "newer")
    assert file.read_text() == f"before\n{BEGIN}\n\nnewer\n{END}\nafter\n"


def test_a_file_without_marks_is_left_alone(tmp_path: Any) -> None:
    file = tmp_path / "benchmarks.md"
    file.write_text("text\n")
    with pytest.raises(ValueError, match="expected a file with the lines"):
        write_between_markers(file, "new")
    assert file.read_text() == "text\n"
