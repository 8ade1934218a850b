"""Folders for other runtimes: what lies where, and that this runtime reads them all alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import gpt2onnx
from gpt2onnx.errors import ParameterError
from gpt2onnx.export.checkpoint.checkpoint import open_checkpoint
from gpt2onnx.export.runtimes.readme import license_of
from gpt2onnx.export.runtimes.targets import RUNTIMES
from tests.checkpoints import make_checkpoint
from tests.raising import raises

SETTINGS = {"README.md", "config.json", "generation_config.json", "manifest.json", "tokenizer.json"}
HUB = {"model.onnx", "model.onnx_data", "tokenizer_config.json"}
FILES = {
    "onnxruntime": {"model.onnx", "model.onnx.data", "model.draft.onnx", "model.kernels.onnx"},
    "optimum": HUB,
    "openvino": HUB,
    "genai": HUB | {"genai_config.json"},
    "transformers.js": {
        "onnx/model_quantized.onnx",
        "onnx/model_quantized.onnx_data",
        "tokenizer_config.json",
    },
}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_every_runtime_has_its_files(exported: Callable[..., Path]) -> None:
    assert set(FILES) == set(RUNTIMES)
    for runtime, files in FILES.items():
        folder = exported(runtime)
        found = {file.relative_to(folder).as_posix() for file in folder.rglob("*.*")}
        assert found == SETTINGS | files, runtime
        assert read(folder / "manifest.json")["runtime"] == runtime


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_this_runtime_reads_it(runtime: str, exported: Callable[..., Path]) -> None:
    first = exported("onnxruntime", "fp32")
    for folder in (first, exported(runtime, "fp32")):
        model = gpt2onnx.load(folder, startup_cache=False)
        made = model.generate(["ab", "a longer prompt"], max_new_tokens=12, min_new_tokens=12)
        if folder == first:
            expected = [each.token_ids for each in made]
    assert [each.token_ids for each in made] == expected


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("runtime", sorted(set(RUNTIMES) - {"onnxruntime"}))
def test_weights_are_where_the_graph_says(
    runtime: str, precision: str, exported: Callable[..., Path]
) -> None:
    (graph,) = exported(runtime, precision).rglob("*.onnx")
    (data,) = graph.parent.glob("*.onnx_data")
    assert data.name == f"{graph.name}_data"  # as transformers.js looks for it
    onnx.checker.check_model(graph)


@pytest.mark.parametrize(
    ("precision", "name", "dtype"),
    [
        ("fp32", "model", "fp32"),
        ("fp16", "model_fp16", "fp16"),
        ("int8-dynamic", "model_int8", "int8"),
        ("int4", "model_q4", "q4"),
    ],
)
def test_transformers_js_finds_each_precision(
    precision: str, name: str, dtype: str, exported: Callable[..., Path]
) -> None:
    folder = exported("transformers.js", precision)
    assert (folder / "onnx" / f"{name}.onnx").is_file()
    assert read(folder / "config.json")["transformers.js_config"] == {
        "dtype": dtype,
        "use_external_data_format": True,
    }
    assert f'dtype: "{dtype}"' in (folder / "README.md").read_text()


def test_a_tokenizer_can_pad(exported: Callable[..., Path]) -> None:
    found = read(exported("transformers.js") / "tokenizer_config.json")
    assert found["pad_token"] == found["eos_token"] == "<|endoftext|>"
    assert found["padding_side"] == "left"


def test_genai_is_told_of_the_graph(exported: Callable[..., Path], tmp_path: Path) -> None:
    config = read(exported("genai") / "genai_config.json")
    decoder = config["model"]["decoder"]
    graph = onnx.load(exported("genai") / decoder["filename"], load_external_data=False).graph
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    for names in (decoder["inputs"], decoder["outputs"]):
        for name in names.values():
            assert name.replace("%d", "1") in shapes
    key = shapes[decoder["inputs"]["past_key_names"] % 1]
    assert key[1::2] == [decoder["num_key_value_heads"], decoder["head_size"]]
    assert config["search"]["past_present_share_buffer"]
    portable = gpt2onnx.export(
        *(make_checkpoint(tmp_path / "checkpoint"), tmp_path / "out"),
        runtime="genai",
        graph="portable",
        precision="fp32",
        verify=False,
    )
    config = read(portable.folder / "genai_config.json")
    assert not config["search"]["past_present_share_buffer"]


def test_heads_that_are_filled_up(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_embd=20, n_head=2)
    for runtime in ("transformers.js", "optimum"):
        with pytest.raises(ParameterError, match=r"size, 10, .* fills them up to 16; use graph="):
            gpt2onnx.export(checkpoint, tmp_path / "out", runtime=runtime, graph="masked")
    made = gpt2onnx.export(checkpoint, tmp_path / "out", runtime="genai", verify=False)
    assert read(made.folder / "genai_config.json")["model"]["decoder"]["head_size"] == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "tvm"}, "runtime='tvm': expected one of onnxruntime, transformers.js, genai"),
        ({"runtime": "openvino", "graph": "masked"}, "openvino takes 'portable'; leave graph out"),
        ({"runtime": "genai", "graph": "fused"}, "genai takes 'masked' or 'portable'"),
        ({"runtime": "genai", "graph": "odd"}, "graph='odd': expected one of fused, masked, "),
    ],
)
def test_says_what_does_not_go_together(
    options: dict[str, Any], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=re.escape(message)):
        gpt2onnx.export(checkpoint, tmp_path / "out", **options)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"runtime": "optimum", "precision": "int4"}, ("precision",)),
        ({"runtime": "genai", "kv_cache": "int8"}, ("kv_cache",)),
        ({"runtime": "genai", "device": "cuda"}, ("device",)),
        ({"runtime": "genai", "with_hidden_states": True}, ("with_hidden_states",)),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: dict[str, Any], named: tuple[str, ...], checkpoint: Path, tmp_path: Path
) -> None:
    with raises(ParameterError, named=named):
        gpt2onnx.export(checkpoint, tmp_path / "out", **options)
    assert not any(tmp_path.iterdir())


def test_the_readme_says_what_it_is(exported: Callable[..., Path], checkpoint: Path) -> None:
    about = (exported("openvino") / "README.md").read_text()
    for line in (
        "| precision | int8 |",
        "| quality | not compared with PyTorch |",
        f"| source | {checkpoint} |",
        "| license | not stated in the checkpoint; see its source |",
    ):
        assert line in about
    (code,) = re.findall(r"```python\n(.*?)```", about, re.DOTALL)
    compile(code, "README.md", "exec")


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlanguage: en\nlicense: mit\n---\n# GPT-2\n", "mit"),
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("# GPT-2\n\nlicense: unknown\n", "not stated in the checkpoint; see its source"),
        ("---\nlanguage: en\n---\nlicense: mine\n", "not stated in the checkpoint; see its source"),
    ],
)
def test_the_license_is_the_model_cards(card: str, license: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", n_layer=1)
    (checkpoint / "README.md").write_text(card)
    assert license_of(open_checkpoint(checkpoint)) == license


def test_a_cache_longer_than_what_it_holds(exported: Callable[..., Path]) -> None:
    """As onnxruntime-genai binds it: past and present in one memory."""
    import onnxruntime

    path = exported("genai", "fp32") / "model.onnx"
    raw = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ids = np.arange(7)[None] * 31
    names = [value.name for value in raw.get_inputs() if value.name.startswith("past")]
    logits = []
    for length in (0, 64):
        past = {name: np.zeros((1, 4, length, 8), np.float32) for name in names}
        found = []
        for start, stop in ((0, 5), (5, 6), (6, 7)):
            feeds = {"input_ids": ids[:, start:stop], "attention_mask": np.ones((1, stop), int)}
            feeds["position_ids"] = np.arange(start, stop)[None]
            output, *present = raw.run(None, {**feeds, **past})
            past = dict(zip(past, present, strict=True))
            found.append(output[0])
        logits.append(np.concatenate(found))
    np.testing.assert_allclose(*logits, atol=1e-5, rtol=0)
