"""Checkpoint in, model folder out.

Puts the parts of the export together; knows nothing of how each does its work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpt2onnx.errors import ExportError
from gpt2onnx.export.calibration.sensitivity import SENSITIVITY_TOKENS, sensitivity
from gpt2onnx.export.calibration.text import CalibrationText
from gpt2onnx.export.checkpoint.adapter import open_adapters
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint, Weights, open_checkpoint
from gpt2onnx.export.checkpoint.generation_settings import KeptSettings, kept_settings
from gpt2onnx.export.checkpoint.merging import with_adapters
from gpt2onnx.export.graph import draft as draft_graph
from gpt2onnx.export.graph import kernels as kernels_graph
from gpt2onnx.export.graph.fused import Extras, build
from gpt2onnx.export.graph.heads import pad_heads
from gpt2onnx.export.graph.kv_cache import calibrate, largest_held
from gpt2onnx.export.plan import Plan
from gpt2onnx.export.quantization.moments import MOMENT_TOKENS, Moments
from gpt2onnx.export.quantization.rotation import Rotated
from gpt2onnx.export.quantization.smoothquant import smooth
from gpt2onnx.export.quantization.table import RANK, Calibrated, choose
from gpt2onnx.export.runtimes.readme import readme
from gpt2onnx.export.runtimes.targets import write_runtime_settings
from gpt2onnx.export.verification.verify import (
    Verification,
    can_verify,
    require_packages,
    verify_folder,
)
from gpt2onnx.export.writing.folder import (
    DRAFT_MODEL,
    KERNELS_MODEL,
    README,
    check_replaceable,
    staged,
    write_manifest,
    write_settings,
)
from gpt2onnx.export.writing.onnx_builder import GraphBuilder
from gpt2onnx.export.writing.progress import Track, bar, silent
from gpt2onnx.files import as_path, unicode_name
from gpt2onnx.flags import flag


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
    graph: str | None = None,
    runtime: str = "onnxruntime",
    device: str = "cpu",
    revision: str | None = None,
    adapter: str | Path | Sequence[str | Path] = (),
    with_hidden_states: bool = False,
    with_attention_bias: bool = False,
    kv_cache: str = "auto",
    calibration: str | Path | None = None,
    verify: bool | None = None,
    force: bool = False,
    strict: bool = False,
    progress: bool = False,
) -> Export:
    """Write a GPT-2 checkpoint as an ONNX model folder.

    source: a folder that transformers wrote, or a hub's model id, then at `revision`.
    adapter: a LoRA adapter's folder, as PEFT saves it, to be merged into the weights; or several,
    which are merged one after the other.
    precision: fp32, fp16, int8, int8-dynamic or int4. With device="cuda", int8 and int4 have
    activations and cache in half precision.
    graph: "fused" is made for ONNX Runtime; "masked" is the same with Optimum's inputs and outputs;
    "portable" has these, too, and is in standard operators, in fp32 or int8. By default the first
    that the runtime takes.
    runtime: who is to run it, in whose layout the folder is: "onnxruntime", by gpt2onnx;
    "transformers.js", "genai", "openvino" or "optimum". This one reads all of them.
    with_hidden_states: let the fused graph give the last hidden states as well, which contrastive
    search goes by.
    with_attention_bias: let the fused graph be told what each token sees, which lookahead decoding
    needs.
    kv_cache: "float", the type of the activations; "float16", half the memory and faster steps
    behind long contexts where gpt2onnx-kernels run it (the graph without them keeps "float"); or
    "int8", a quarter of the memory with either graph, for less exact answers. Both are for the CPU.
    "auto" is "float16" for int8 and int4 in the fused graph on the CPU, or "float" where half
    precision doesn't hold the cache, of which a SettingsWarning tells; and "float" for all others.
    calibration: a file with a text like those to come, which tells what is rounded where it matters
    (int8, int8-dynamic and int4, an int8 cache), and whether float16 holds the cache; random tokens
    do without, and for int4 what the model writes.
    verify: compare with PyTorch; by default where torch, transformers and onnxruntime are there.
    force: replace a model folder that is there already.
    strict: raise UnsupportedConfigError for settings of generation that can't be kept, of which a
    SettingsWarning tells otherwise; the model folder does without them.

    `out` is written beside its place and renamed: where anything fails it stays as it was.

    Raises CheckpointError and its kinds, ExportError and its kinds, ParameterError,
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
    plan = Plan.of(
        precision=precision,
        graph=graph,
        runtime=runtime,
        device=device,
        extras=Extras(with_hidden_states, with_attention_bias, kv_cache),
        calibration=calibration,
    )
    if verify:
        require_packages()
    out = as_path(out, "out", ExportError)
    check_replaceable(out, force)
    track = bar if progress else silent
    checkpoint = _opened(source, revision, adapter, plan)
    settings = kept_settings(
        checkpoint.config_json, checkpoint.generation_config, checkpoint.config.vocab_size
    )
    settings.tell(strict)
    with staged(out, force) as stage:
        started = time.perf_counter()
        plan = _write_model(plan, checkpoint, stage, track)
        write_settings(checkpoint, settings.generation_config, stage)
        write_runtime_settings(plan.runtime, checkpoint, plan.place, stage)
        written = time.perf_counter()
        verification = None
        if verify or (verify is None and can_verify()):
            verification = verify_folder(checkpoint, stage, precision, track, plan.extras.kv_cache)
        verified = time.perf_counter()
        _write_about(plan, checkpoint, settings, verification, stage)
        size = sum(path.stat().st_size for path in stage.rglob("*") if path.is_file())
    return Export(
        folder=out,
        graph=plan.graph,
        precision=precision,
        size=size,
        seconds=written - started,
        verification=verification,
        verification_seconds=verified - written,
    )


def _opened(
    source: str | Path,
    revision: str | None,
    adapter: str | Path | Sequence[str | Path],
    plan: Plan,
) -> Checkpoint:
    """The checkpoint, which can be exported as planned, with its adapters merged."""
    adapters = open_adapters(adapter)
    checkpoint = open_checkpoint(source, revision)
    plan.runtime.check(plan.graph, checkpoint.config)
    checkpoint.check()
    return with_adapters(checkpoint, adapters)


def _write_model(plan: Plan, checkpoint: Checkpoint, folder: Path, track: Track) -> Plan:
    """The graph, and the matrices that it points into. Returns the plan that these weights took."""
    weights: Weights = checkpoint
    text = CalibrationText(checkpoint, plan.calibration)
    recipe, kind = plan.recipe
    held = largest_held(weights, text.windows(), track)
    if plan.rounds:
        smoothed = smooth(checkpoint, text.windows(), track)
        weights = rounded = smoothed if plan.rounds_cache else Rotated(smoothed)
        held = rounded.largest_held()
        if plan.graph != "portable":
            recipe = choose(plan.precision, plan.device, _calibrated(plan, weights, text, track))
    plan = plan.on(held)
    grids = calibrate(weights, text.windows(), track) if plan.rounds_cache else []
    file = folder / plan.place.file
    file.parent.mkdir(exist_ok=True)
    with (file.parent / plan.place.data).open("wb") as data:
        op = GraphBuilder(data, plan.place.data, kind.opset)
        model = build(weights, recipe, op, track, plan.extras, grids, kind)
    file.write_bytes(model.SerializeToString())
    if plan.has_kernels:
        flat = kernels_graph.build(model, op.initializers, checkpoint.config, plan.extras.kv_cache)
        (folder / KERNELS_MODEL).write_bytes(flat.SerializeToString())
        (folder / DRAFT_MODEL).write_bytes(draft_graph.build(flat).SerializeToString())
    return plan


def _calibrated(plan: Plan, weights: Weights, text: CalibrationText, track: Track) -> Calibrated:
    """What a text tells of matrices. Moments cost nothing before one asks for its own."""
    config = weights.config
    pad = partial(pad_heads, config=config)
    heeded, corrected = (
        [f"h.{layer}{ending}" for layer in range(config.n_layer) for ending in endings]
        for endings in (plan.heeded, plan.corrected)
    )
    if not (heeded or corrected):
        return Calibrated()
    windows = text.usual_windows(MOMENT_TOKENS, track) if heeded else text.windows()
    some = windows[: -(-SENSITIVITY_TOKENS // config.n_positions), :SENSITIVITY_TOKENS]
    directions, gradients = sensitivity(weights, some, corrected, RANK, heeded, track)
    for layer in range(config.n_layer):
        made, read = f"h.{layer}.attn.c_attn", f"h.{layer}.attn.c_proj"
        if made in gradients:
            gradients[made] = pad(gradients[made])
        if read in directions:
            directions[read] = pad(directions[read].T).T
    return Calibrated(Moments(weights, windows, pad) if heeded else None, gradients, directions)


def _write_about(
    plan: Plan,
    checkpoint: Checkpoint,
    settings: KeptSettings,
    verification: Verification | None,
    folder: Path,
) -> None:
    """What people and programs read of the folder: README and manifest."""
    about = readme(plan.runtime.name, checkpoint, plan.place, verification)
    (folder / README).write_text(about, encoding="utf-8")
    left_out = {"settings_left_out": list(settings.left_out)} if settings.left_out else {}
    write_manifest(folder, plan.described() | left_out | _describe(checkpoint, verification))


def _describe(checkpoint: Checkpoint, verification: Verification | None) -> dict[str, Any]:
    """What the manifest says of the checkpoint, and how well it is matched."""
    merged = [{"name": unicode_name(a.name), "sha256": a.sha256} for a in checkpoint.adapters]
    return {
        "source": {"name": unicode_name(checkpoint.source), "revision": checkpoint.revision},
        **({"adapters": merged} if merged else {}),
        "verification": asdict(verification) if verification else None,
    }
