"""run_batch: files of prompts in, files of answers out; a job that can be killed and goes on.

The input is cut into shards; workers answer them and append to a file for each; whole ones are
merged into the output. All of it is in a folder beside the output, OUTPUT.job, until it is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import gpt2onnx
from gpt2onnx.batch.inputs import Input, find_inputs, form_of_lines, written_out
from gpt2onnx.batch.job_folder import JobFolder, Places
from gpt2onnx.batch.manifest import Manifest, as_json, digests, model_identity
from gpt2onnx.batch.merge import Merger, shard_path
from gpt2onnx.batch.records import records
from gpt2onnx.batch.shards import Shard, plan
from gpt2onnx.batch.spec import PREFIX_CACHE, WorkerSpec
from gpt2onnx.batch.supervisor import BatchProgress, Counts, Pool, Source, supervise
from gpt2onnx.demo import DEMO
from gpt2onnx.errors import Given, InstallationError, ParameterError, PromptError
from gpt2onnx.files import open_regular
from gpt2onnx.models import resolve
from gpt2onnx.runtime.folder.model_folder import open_folder
from gpt2onnx.runtime.ort.load_params import check_load
from gpt2onnx.samplers.params import PARAMETERS
from gpt2onnx.samplers.params.keywords import GenerationKeywords


@dataclass(frozen=True)
class BatchReport:
    """What came of a job. `lines`, `failed` and `kept` count the whole of it, the others this run.

    `errors` is the file of the lines that failed; None where there are none.
    """

    output: Path
    errors: Path | None
    lines: int  # of the input, blank ones too
    failed: int
    kept: int  # that were done before this run began
    tokens_read: int
    tokens_written: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Of those that were written."""
        return self.tokens_written / self.seconds


def run_batch(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Path = DEMO,
    name: str | None = None,
    lines: str = "auto",
    errors: str | Path | None = None,
    ordered: bool = False,
    resume: bool = False,
    force: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    max_rows: int | None = None,
    prefix_cache: str | int = PREFIX_CACHE,
    progress: Callable[[BatchProgress], object] | None = None,
    provider: str = "auto",
    provider_options: Mapping[str, object] | None = None,
    threads: int | None = None,
    startup_cache: bool = True,
    graph: str = "auto",
    **parameters: Unpack[GenerationKeywords],
) -> BatchReport:
    """Answer each line of some files, by several workers, into a file.

    inputs: files, patterns of their names, or "-" for standard input; gzip and zstd, too. lines:
    "json", OpenAI's batch lines or objects with a prompt; "text", a prompt each; "auto" looks.
    name: what bodies call the model, its folder's name by default. errors: the file for lines that
    failed, OUTPUT.errors.jsonl by default. ordered: answers stand in the input's order.
    resume: go on with a job that was ended. force: begin anew, and replace the output.
    workers: processes, by default one a core, or one for another device. ray: the address of a Ray
    cluster, whose nodes run them. max_rows: sequences that a worker runs at once. prefix_cache: a
    worker's memory for prompts' beginnings. progress: told of each step. The others are load's.
    parameters: generate's, for lines that don't say otherwise; a line's seed follows from `seed`
    and the line's custom_id.

    Raises PromptError for an input that can't be read, OutputExistsError, StorageError,
    ParameterError, BatchError where workers die again and again; what load raises.
    """
    began = time.monotonic()
    check_load(provider, provider_options, threads, startup_cache)
    given, places = _parameters(parameters), Places.of(output, errors)
    found, folder = find_inputs(inputs), resolve(model, provider)
    where = {"provider": provider, "provider_options": provider_options, "graph": graph}
    wanted = Manifest(
        gpt2onnx=gpt2onnx.__version__,
        inputs=digests(found),
        lines=lines,
        model=model_identity(open_folder(folder), where),
        name=name or (DEMO if str(model) == DEMO else folder.resolve().name),
        parameters=given,
        ordered=ordered,
        created=int(time.time()),
        replaces=force,
    )
    with ExitStack() as stack:
        job = stack.enter_context(JobFolder(places, resume=resume, force=force))
        stack.enter_context(job.storage_errors())
        manifest, files = _begun(job, found, wanted)
        spec = WorkerSpec(
            folder=str(folder),
            parameters=given,
            form=manifest.lines,
            created=manifest.created,
            name=manifest.name,
            identity=manifest.model,
            load_options={**where, "threads": threads, "startup_cache": startup_cache},
            max_rows=max_rows,
            prefix_cache=prefix_cache,
        )
        merger = stack.enter_context(Merger(job.path, manifest.shards, ordered))
        counts = Counts(manifest.total, _done(job.path, manifest, merger), merger.failed)
        if not merger.is_complete:
            pool = stack.enter_context(closing(_pool(spec, workers, ray, job.lock)))
            supervise(pool, [Source.of(path) for path in files], merger, counts, progress)
        has_errors = merger.finish(places.output, places.errors)
        job.end()
    return BatchReport(
        output=places.output,
        errors=places.errors if has_errors else None,
        lines=manifest.total,
        failed=merger.failed,
        kept=counts.kept,
        tokens_read=counts.read,
        tokens_written=counts.written,
        seconds=time.monotonic() - began,
    )


def _begun(job: JobFolder, found: Sequence[Input], wanted: Manifest) -> tuple[Manifest, list[Path]]:
    """The job's manifest, written now or before, and the plain files of its input."""
    begun = job.manifest
    files = [
        written_out(each, job.path / f"input-{number}", is_there=begun is not None)
        for number, each in enumerate(found)
    ]
    manifest = replace(
        wanted,
        lines=form_of_lines(wanted.lines, files),
        created=begun.created if begun else wanted.created,
        replaces=begun.replaces if begun else wanted.replaces,
        shards=begun.shards if begun else _shards(files),
    )
    job.begin(manifest)
    return manifest, files


def _pool(spec: WorkerSpec, workers: int | None, ray: str | None, lock: int) -> Pool:
    try:
        from gpt2onnx.batch.pool import open_pool
    except ImportError as error:
        raise InstallationError(
            f"a batch needs packages that are missing ({error}): pip install 'gpt2onnx[batch]'"
        ) from error
    return open_pool(spec, workers, ray, lock)


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those that can be written down. Raises ParameterError."""
    for name, value in given.items():
        if name not in PARAMETERS or not PARAMETERS[name].kind:
            raise ParameterError(
                Given(name, value), ": expected a parameter of generate that can be written down"
            )
    try:
        return as_json({name: value for name, value in given.items() if value is not None})
    except (TypeError, ValueError) as error:
        raise ParameterError(f"parameters of a batch must go into JSON: {error}") from None


def _shards(files: Sequence[Path]) -> list[Shard]:
    with ExitStack() as stack:
        opened = [stack.enter_context(open_regular(path, PromptError)) for path in files]
        return plan(opened, [path.stat().st_size for path in files])


def _done(folder: Path, manifest: Manifest, merger: Merger) -> int:
    """The lines that are done already; shards that are whole are merged."""
    done = sum(shard.lines for shard in manifest.shards if shard.number in merger.merged)
    for shard in manifest.shards:
        path = shard_path(folder, shard)
        if shard.number in merger.merged or not path.exists():
            continue
        count = len({record.number for record in records(path)})
        done += count
        if count == shard.lines:
            merger.add(shard)
    return done
