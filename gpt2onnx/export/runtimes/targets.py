"""The runtimes that a model folder can be made for: their graphs and extra files.

Knows the other runtimes' names and settings; knows nothing of nodes. snippets.py has how to run it
there, readme.py what the folder says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2onnx.errors import Advised, Given, ParameterError
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.graph.heads import padded_head_dim
from gpt2onnx.export.graph.kinds import GRAPHS
from gpt2onnx.export.quantization.table import PRECISIONS
from gpt2onnx.export.writing.folder import DATA, MODEL, write_json
from gpt2onnx.flags import one_of

# What transformers.js' files of each of its precisions end in:
# https://huggingface.co/docs/transformers.js/guides/dtypes
JS_SUFFIXES = {"fp32": "", "fp16": "_fp16", "q8": "_quantized", "int8": "_int8", "q4": "_q4"}


@dataclass(frozen=True)
class Place:
    """Where in the folder a graph lies, and which graph it is."""

    graph: str
    precision: str
    file: str = MODEL
    data: str = DATA  # beside it


def js_dtype(precision: str) -> str:
    """transformers.js' name of a precision."""
    return PRECISIONS[precision].js_dtype


def _hub_place(graph: str, precision: str) -> Place:
    return Place(graph, precision, MODEL, f"{MODEL}_data")


def _js_place(graph: str, precision: str) -> Place:
    name = f"model{JS_SUFFIXES[js_dtype(precision)]}.onnx"
    return Place(graph, precision, f"onnx/{name}", f"{name}_data")


def _own_place(graph: str, precision: str) -> Place:
    return Place(graph, precision) if graph == "fused" else _hub_place(graph, precision)


Settings = Callable[[Checkpoint, Place], Mapping[str, Mapping[str, Any]]]  # files by name


@dataclass(frozen=True)
class Runtime:
    """One that runs model folders. The first of `graphs` is the one that it gets unless told."""

    name: str
    graphs: tuple[str, ...]
    place: Callable[[str, str], Place]
    settings: Settings
    reads_heads_of: str | None = None  # a file whose head size must be the graph's
    unpacks: bool = False  # whether its portable graph multiplies weights out when it is opened

    def check(self, graph: str, config: Gpt2Config) -> None:
        """Raise ParameterError for a head size that its settings can't say."""
        padded = padded_head_dim(config)
        if graph != "masked" or not self.reads_heads_of or padded == config.head_dim:
            return
        raise ParameterError(
            Given("graph", graph),
            f": {self.name} takes the heads' size, {config.head_dim}, from {self.reads_heads_of}, "
            f"but the graph fills them up to {padded}; use ",
            Advised("graph", "portable"),
        )


def choose_runtime(name: str, graph: str | None) -> tuple[Runtime, str]:
    """A runtime by its name, and its graph. Raises ParameterError."""
    runtime = RUNTIMES[one_of("runtime", name, RUNTIMES)]
    if graph is None:
        return runtime, runtime.graphs[0]
    if one_of("graph", graph, GRAPHS) not in runtime.graphs:
        raise ParameterError(
            Given("graph", graph),
            f": {name} takes {' or '.join(map(repr, runtime.graphs))}; leave ",
            *(Given("graph"), " out for the best"),
        )
    return runtime, graph


def write_runtime_settings(
    runtime: Runtime, checkpoint: Checkpoint, place: Place, folder: Path
) -> None:
    """The files that the runtime wants beside those of every model folder."""
    for name, content in runtime.settings(checkpoint, place).items():
        write_json(folder / name, content)


def _nothing(checkpoint: Checkpoint, place: Place) -> Mapping[str, Mapping[str, Any]]:
    return {}


def _tokenizer(checkpoint: Checkpoint, place: Place) -> dict[str, Mapping[str, Any]]:
    return {"tokenizer_config.json": _tokenizer_config(checkpoint, "PreTrainedTokenizerFast")}


def _genai(checkpoint: Checkpoint, place: Place) -> dict[str, Mapping[str, Any]]:
    return {
        "tokenizer_config.json": _tokenizer_config(checkpoint, "GPT2Tokenizer"),
        "genai_config.json": _genai_config(checkpoint, place),
    }


def _transformers_js(checkpoint: Checkpoint, place: Place) -> dict[str, Mapping[str, Any]]:
    own = {"dtype": js_dtype(place.precision), "use_external_data_format": True}
    return {
        "config.json": {**checkpoint.config_json, "transformers.js_config": own},
        "tokenizer_config.json": _tokenizer_config(checkpoint, "GPT2Tokenizer"),
    }


def _tokenizer_config(checkpoint: Checkpoint, kind: str) -> dict[str, Any]:
    """What transformers and its like ask for beside tokenizer.json, with a token to pad with."""
    config, token = checkpoint.config, checkpoint.tokenizer.id_to_token
    bos, eos = _first(config.bos_token_id), _first(config.eos_token_id)
    pad = next((id_ for id_ in (eos, bos) if id_ is not None), 0)
    special = {"bos_token": bos, "eos_token": eos, "pad_token": pad}
    named = {name: token(id_) for name, id_ in special.items() if id_ is not None}
    return {
        "tokenizer_class": kind,
        **{name: text for name, text in named.items() if text is not None},
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": config.n_positions,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
    }


def _genai_config(checkpoint: Checkpoint, place: Place) -> dict[str, Any]:
    """https://onnxruntime.ai/docs/genai/reference/config.html"""
    config, masked = checkpoint.config, place.graph == "masked"
    eos = config.eos_token_id
    names = {
        f"{time}_{part}_names": f"{prefix}.%d.{part}"
        for time, prefix in (("past", "past_key_values"), ("present", "present"))
        for part in ("key", "value")
    }
    fed = ("input_ids", "attention_mask", "position_ids")
    decoder = {
        "session_options": {"provider_options": []},
        "filename": place.file,
        "head_size": padded_head_dim(config) if masked else config.head_dim,
        "hidden_size": config.n_embd,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_head,
        "num_hidden_layers": config.n_layer,
        "inputs": {name: name for name in fed} | _starting(names, "past"),
        "outputs": {"logits": "logits"} | _starting(names, "present"),
    }
    return {
        "model": {
            "type": "decoder",
            "bos_token_id": _first(config.bos_token_id) or 0,
            "eos_token_id": list(eos) if isinstance(eos, tuple) else eos or 0,
            "pad_token_id": _first(eos) or 0,
            "context_length": config.n_positions,
            "vocab_size": config.vocab_size,
            "decoder": decoder,
        },
        "search": {
            "max_length": config.n_positions,
            "do_sample": False,
            # GroupQueryAttention appends in place; standard operators give a longer tensor.
            "past_present_share_buffer": masked,
        },
    }


def _starting(names: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key: name for key, name in names.items() if key.startswith(prefix)}


def _first(token: int | tuple[int, ...] | None) -> int | None:
    return (token[0] if token else None) if isinstance(token, tuple) else token


RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("onnxruntime", ("fused", "masked", "portable"), _own_place, _nothing),
        Runtime(
            "transformers.js",
            ("masked", "portable"),
            _js_place,
            _transformers_js,
            reads_heads_of="config.json",
            unpacks=True,  # the portable graph is the one for WebAssembly
        ),
        Runtime("genai", ("masked", "portable"), _hub_place, _genai),
        # Of OpenVINO 2026.4, GroupQueryAttention takes one row alone.
        Runtime("openvino", ("portable",), _hub_place, _tokenizer),
        Runtime(
            "optimum",
            ("portable", "masked"),
            _hub_place,
            _tokenizer,
            reads_heads_of="config.json",
        ),
    )
}
