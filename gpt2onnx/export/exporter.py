"""Checkpoint in, model folder out.

Puts the parts of the export together; knows nothing of how each does its work.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpt2onnx.errors import ExportError, ParameterError, shown
from gpt2onnx.export import kernels_graph
from gpt2onnx.export.builder import GraphBuilder
from gpt2onnx.export.calibration_text import CalibrationText
from gpt2onnx.export.checkpoint import Checkpoint, Weights, open_checkpoint
from gpt2onnx.export.cuda_graph import CudaDecoder, SingleCudaDecoder
from gpt2onnx.export.folder import (
    DATA,
    KERNELS_MODEL,
    MODEL,
    check_replaceable,
    staged,
    write_manifest,
    write_settings,
)
from gpt2onnx.export.graph import Decoder, Extras, build
from gpt2onnx.export.kv_cache import CacheGrid, calibrate, check_kv_cache
from gpt2onnx.export.moments import MOMENT_TOKENS, Moments
from gpt2onnx.export.portable import DATA as PORTABLE_DATA
from gpt2onnx.export.portable import choose_portable, portable_decoder
from gpt2onnx.export.precision import DEVICES, PRECISIONS, ROUNDED, Precision, choose
from gpt2onnx.export.progress import bar, silent
from gpt2onnx.export.settings import kept_settings
from gpt2onnx.export.smoothing import smooth
from gpt2onnx.export.verify import Verification, can_verify, require_packages, verify_folder
from gpt2onnx.files import as_path
from gpt2onnx.flags import flag, one_of

GRAPHS = ("fused", "portable")


@dataclass(frozen=True)
class Export:
    """What an export made. `seconds` are the export's own, `verification_seconds` the check's."""

    folder: Path
    graph: str
    precision: str
    size: int  # bytes
    seconds: float
    verification: Verification | None
    verification_seconds: float

    def __str__(self) -> str:
        made = (
            f"{self.folder}: {self.precision}, {self.graph} graph, {self.size / 1e6:.1f} MB "
            f"in {self.seconds:.1f} s"
        )
        return f"{made}; {self.verification}" if self.verification else f"{made}; not verified"


def export(
    source: str | Path,
    out: str | Path,
    *,
    precision: str = "int8",
    graph: str = "fused",
    device: str = "cpu",
    revision: str | None = None,
    with_hidden_states: bool = False,
    with_attention_bias: bool = False,
    kv_cache: str = "float",
    calibration: str | Path | None = None,
    verify: bool | None = None,
    force: bool = False,
    strict: bool = False,
    progress: bool = False,
) -> Export:
    """Write a GPT-2 checkpoint as an ONNX model folder.

    source: a folder that transformers wrote, or a hub's model id, then at `revision`.
    precision: fp32, fp16, int8, int8-dynamic or int4. With device="cuda", int8 and int4 have
    activations and cache in half precision.
    graph: "fused" is made for ONNX Runtime; "portable" is in standard operators, in fp32 or int8,
    with Optimum's inputs and outputs.
    with_hidden_states: let the fused graph give the last hidden states as well, which contrastive
    search goes by.
    with_attention_bias: let the fused graph be told what each token sees, which lookahead decoding
    needs.
    kv_cache: "float", the type of the activations; or "int8", for the CPU: a quarter of the memory
    and faster steps behind long contexts, for slower prompts.
    calibration: a file with a text like those to come, which tells what is rounded where it matters
    (int8, int8-dynamic and int4, an int8 cache); random tokens do without.
    verify: compare with PyTorch; by default where torch, transformers and onnxruntime are there.
    force: replace a model folder that is there already.
    strict: raise UnsupportedConfigError for settings of generation that can't be kept, of which a
    SettingsWarning tells otherwise; the model folder does without them.

    `out` is written beside its place and renamed: where anything fails it stays as it was.

    Errors: CheckpointError and its kinds, ExportError and its kinds, ParameterError,
    InstallationError.
    """
    for name, value in (
        ("with_hidden_states", with_hidden_states),
        ("with_attention_bias", with_attention_bias),
        ("force", force),
        ("progress", progress),
        *([] if verify is None else [("verify", verify)]),
    ):
        flag(name, value)
    recipe = _choose(graph, precision, device)
    kind = _decoder(graph, device, precision)
    check_kv_cache(kv_cache, graph, precision, device)
    if calibration is not None:
        calibration = as_path(calibration, "calibration", ParameterError)
    if calibration is not None and precision not in ROUNDED and kv_cache != "int8":
        raise ParameterError(
            f"calibration={shown(str(calibration))} has no effect on precision={precision!r}: it "
            "is for int8, int8-dynamic, int4 and for kv_cache='int8'; leave it out"
        )
    extras = Extras(with_hidden_states, with_attention_bias, kv_cache)
    _check_extras(extras, graph, kind)
    if verify:
        require_packages()
    out = as_path(out, "out", ExportError)
    check_replaceable(out, force)
    track = bar if progress else silent
    checkpoint = open_checkpoint(source, revision)
    checkpoint.check()
    settings = kept_settings(
        checkpoint.config_json, checkpoint.generation_config, checkpoint.config.vocab_size
    )
    settings.tell(strict)
    with staged(out, force) as stage:
        started = time.perf_counter()
        weights: Weights = checkpoint
        text = CalibrationText(checkpoint, calibration)
        if precision in ROUNDED:
            weights = smooth(checkpoint, text.windows(), track)
            if graph == "fused":  # moments cost nothing before a matrix asks for its own
                recipe = choose(precision, device, Moments(weights, text.windows(MOMENT_TOKENS)))
        grids: list[CacheGrid] = []
        if kv_cache == "int8":
            grids = calibrate(weights, text.windows(), track)
        data = DATA if graph == "fused" else PORTABLE_DATA
        with (stage / data).open("wb") as file:
            op = GraphBuilder(file, data, kind.opset)
            model = build(weights, recipe, op, track, extras, grids, kind)
        (stage / MODEL).write_bytes(model.SerializeToString())
        if graph == "fused" and precision in kernels_graph.PRECISIONS and device == "cpu":
            flat = kernels_graph.build(model, checkpoint.config)
            (stage / KERNELS_MODEL).write_bytes(flat.SerializeToString())
        write_settings(checkpoint, settings.generation_config, stage)
        written = time.perf_counter()
        verification = None
        if verify or (verify is None and can_verify()):
            verification = verify_folder(checkpoint, stage, precision, track, kv_cache)
        verified = time.perf_counter()
        fused = _describe_fused(recipe, extras, device, kind) if graph == "fused" else {}
        about = _describe(checkpoint, graph, precision, fused, calibration, verification)
        if settings.left_out:
            about["settings_left_out"] = list(settings.left_out)
        write_manifest(stage, about)
        size = sum(path.stat().st_size for path in stage.iterdir())
    return Export(
        folder=out,
        graph=graph,
        precision=precision,
        size=size,
        seconds=written - started,
        verification=verification,
        verification_seconds=verified - written,
    )


def _choose(graph: str, precision: str, device: str) -> Precision:
    """The recipe of a graph. Errors: ParameterError."""
    one_of("graph", graph, GRAPHS)
    if graph == "fused":
        return choose(precision, device)
    one_of("precision", precision, PRECISIONS)
    one_of("device", device, DEVICES)
    recipe = choose_portable(precision)
    if device != "cpu":
        raise ParameterError(
            f"device={device!r}: the portable graph is the same for every device; leave it out"
        )
    return recipe


def _decoder(graph: str, device: str, precision: str) -> type[Decoder]:
    """What writes a graph."""
    if graph == "portable":
        return portable_decoder(precision)
    if device == "cpu":
        return Decoder
    return SingleCudaDecoder if precision == "fp32" else CudaDecoder


def _check_extras(extras: Extras, graph: str, kind: type[Decoder]) -> None:
    """Raise ParameterError for what the graph can't have."""
    if extras.attention_bias and kind is SingleCudaDecoder:
        raise ParameterError(
            "with_attention_bias=True: there is none in fp32 with device='cuda'; use fp16, int8 or "
            "int4, or leave with_attention_bias out"
        )
    for option, asked, what in (
        ("with_hidden_states", extras.hidden_states, "give hidden states"),
        ("with_attention_bias", extras.attention_bias, "be told what each token sees"),
    ):
        if asked and graph == "portable":
            raise ParameterError(
                f"{option}=True: the portable graph can't {what}; use graph='fused', or leave "
                f"{option} out"
            )


def _describe_fused(
    recipe: Precision, extras: Extras, device: str, kind: type[Decoder]
) -> dict[str, Any]:
    """What the manifest says of a fused graph alone."""
    about = {"device": device, "activations": str(recipe.dtype), "opset": kind.opset}
    return about | asdict(extras)


def _describe(
    checkpoint: Checkpoint,
    graph: str,
    precision: str,
    fused: dict[str, Any],
    calibration: Path | None,
    verification: Verification | None,
) -> dict[str, Any]:
    """What the manifest says of the model."""
    return {
        "graph": graph,
        "precision": precision,
        **fused,
        "calibration": None if calibration is None else _unicode(str(calibration)),
        "source": {"name": _unicode(checkpoint.source), "revision": checkpoint.revision},
        "verification": asdict(verification) if verification else None,
    }


def _unicode(name: str) -> str:
    """A file's name, which needn't be in UTF-8, as text."""
    return name.encode("utf-8", "backslashreplace").decode()
