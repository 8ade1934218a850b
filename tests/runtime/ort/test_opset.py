"""Versions of operator sets, against onnx, and files that are no models."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from gpt2onnx.errors import CorruptModelError
from gpt2onnx.runtime.ort.opset import opset_version
from tests.raising import raises

DOMAINS = ["", "gpt2onnx", "com.microsoft"]
in_one_file = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50
)


def model_of(versions: dict[str, int]) -> onnx.ModelProto:
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    graph = helper.make_graph([], "empty", [], [])
    model = helper.make_model(graph, opset_imports=opsets, producer_name="somebody")
    helper.set_model_props(model, {"gpt2onnx": "3"})
    return model


@in_one_file
@given(st.dictionaries(st.sampled_from(DOMAINS), st.integers(1, 2**31)))
def test_is_what_onnx_reads(tmp_path: Path, versions: dict[str, int]) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(model_of(versions).SerializeToString())
    assert [opset_version(file, domain) for domain in DOMAINS] == list(map(versions.get, DOMAINS))


@in_one_file
@given(st.binary(max_size=200) | st.integers(0, 60))
def test_anything_else_is_an_error_of_ours_or_asks_for_nothing(
    tmp_path: Path, content: bytes | int
) -> None:
    file = tmp_path / "model.onnx"
    whole = model_of({"gpt2onnx": 2}).SerializeToString()
    file.write_bytes(whole[:content] if isinstance(content, int) else content)
    try:
        found = opset_version(file, "gpt2onnx")
    except CorruptModelError:
        return
    assert found is None or isinstance(found, int)


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x42\x7f",
        b"\x08\xff",
        b"\xff" * (1 << 20),  # a number without an end
        b"\x42\x0b\x08" + b"\xff" * 9 + b"\x01",  # a domain that is a number, and a large one
    ],
    ids=["pointer", "short", "cut", "endless", "number"],
)
def test_no_model(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with raises(CorruptModelError, path=file):
        opset_version(file, "gpt2onnx")
