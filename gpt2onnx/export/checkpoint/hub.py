"""A checkpoint's files from a model hub, in huggingface_hub's own cache.

The client library makes paths of what a hub answers: of a file's ETag, of a commit. Both are looked
at before it does, and so are a listing's names and what the user calls a revision.

Endpoint, token, cache folder, offline mode and progress bars are huggingface_hub's own, as its
environment variables set them. Of all contents only config.json's is heeded here: a model that
can't be exported is refused before its weights are downloaded.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2onnx.errors import CheckpointError, HubError, InstallationError, shown
from gpt2onnx.export.checkpoint.adapter_config import ADAPTER_CONFIG
from gpt2onnx.export.checkpoint.chat_template import CHAT_TEMPLATE
from gpt2onnx.export.checkpoint.config import Gpt2Config
from gpt2onnx.export.checkpoint.tensors import WEIGHTS_FILES
from gpt2onnx.export.checkpoint.tokenizer import TOKENIZER_FILES
from gpt2onnx.files import read_json

if TYPE_CHECKING:
    from huggingface_hub import HfApi

COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
ETAG = re.compile(r'(W/)?"?\w[\w.+=-]{0,199}"?', re.ASCII)
FILE = re.compile(r"\w[\w.-]*", re.ASCII)
REVISION = re.compile(r"(?!.*\.\.)\w[\w.+@=-]*(/\w[\w.+@=-]*)*", re.ASCII)

# An adapter's only to be refused: transformers would load it with the model.
SMALL_FILES = ("generation_config.json", ADAPTER_CONFIG, CHAT_TEMPLATE, *TOKENIZER_FILES)


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint in the cache, and the commit that it is of."""

    folder: Path
    commit: str


def fetch(repo_id: str, revision: str | None = None) -> Snapshot:
    """Download what the cache lacks of a checkpoint; where no hub answers, the cache has to do.

    `revision` is a branch, a tag or a commit. Raises HubError, and UnsupportedConfigError where the
    model can't be exported.
    """
    if revision is not None and not _is_revision(revision):
        raise HubError(
            f"revision={shown(revision)}: expected the name of a branch or a tag, or a commit",
            name="revision",
        )
    try:
        from huggingface_hub import HfApi, constants, errors
    except ImportError as error:
        raise InstallationError(
            f"{repo_id!r} is no folder here, and downloading it needs huggingface_hub;"
            " install it: pip install 'gpt2onnx[export]'",
            name="huggingface_hub",
        ) from error
    if constants.HF_HUB_OFFLINE:
        return _cached(repo_id, revision, "HF_HUB_OFFLINE is set")
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/"))
    try:
        with checked_answers():
            info = api.model_info(repo_id, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            names = {file.rfilename for file in info.siblings or ()}
            return _download(api, repo_id, revision, names)
    except CheckpointError:
        raise
    except (
        errors.HFValidationError,
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
    ) as error:
        raise HubError(_refusal(error, repo_id, revision, api.endpoint), name=repo_id) from error
    except Exception as error:  # HTTP, TLS and disk: the types depend on huggingface_hub's version
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return _cached(repo_id, revision, f"{api.endpoint} gave none: {reason}")


def _download(api: HfApi, repo_id: str, revision: str | None, names: Collection[str]) -> Snapshot:
    """The weights come last, so that a cache that holds them holds all."""
    if "config.json" not in names:
        raise HubError(
            f"{repo_id!r} has no config.json, so it is no checkpoint of transformers", name=repo_id
        )
    config = Path(api.hf_hub_download(repo_id, "config.json", revision=revision))
    Gpt2Config.from_json(read_json(config, CheckpointError))
    weights = _weights(names)
    if not weights:
        raise HubError(
            f"{repo_id!r} has none of {', '.join(WEIGHTS_FILES)}; load its weights in transformers,"
            " save_pretrained() them and export that folder",
            name=repo_id,
        )
    snapshot = Snapshot(config.parent, commit=config.parent.name)
    for name in [*(name for name in SMALL_FILES if name in names), *weights]:
        api.hf_hub_download(repo_id, name, revision=snapshot.commit)
    return snapshot


def _cached(repo_id: str, revision: str | None, reason: str) -> Snapshot:
    """What an earlier download left behind."""
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        config = try_to_load_from_cache(repo_id, "config.json", revision=revision)
    except errors.HFValidationError as error:
        raise HubError(_refusal(error, repo_id, revision, ""), name=repo_id) from error
    folder = Path(config).parent if isinstance(config, str) else None
    if folder is None or not _weights([path.name for path in folder.iterdir()]):
        raise HubError(
            f"{repo_id!r} is no folder here, the cache has no whole checkpoint of that name, and"
            f" {reason}; mend that, or give a checkpoint's folder",
            name=repo_id,
        )
    return Snapshot(folder, commit=folder.name)


def _weights(names: Collection[str]) -> list[str]:
    """The files of the first kind of weights that is there, an index after its shards."""
    for name in WEIGHTS_FILES:
        if name in names:
            sharded, index, _ = name.partition(".index.json")
            shards = sharded.replace(".", "-*.") if index else ""
            beside = [file for file in names if FILE.fullmatch(file)]
            return [*sorted(fnmatch.filter(beside, shards)), name]
    return []


def _is_revision(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 200 and bool(REVISION.fullmatch(value))


@contextmanager
def checked_answers() -> Iterator[None]:
    """While this lasts, `check_answer` sees each answer before huggingface_hub does."""
    from huggingface_hub.utils import get_session

    session = get_session()
    on_answers = _hooks(session)
    _set_hooks(session, [*on_answers, check_answer])
    try:
        yield
    finally:
        _set_hooks(session, on_answers)


def _hooks(session: Any) -> list[Any]:
    """What a session of requests (huggingface_hub before 1.0) or httpx calls with each answer."""
    hooks = session.hooks if hasattr(session, "hooks") else session.event_hooks
    return list(hooks["response"])


def _set_hooks(session: Any, on_answers: list[Any]) -> None:
    if hasattr(session, "hooks"):
        session.hooks = {**session.hooks, "response": on_answers}
    else:
        session.event_hooks = {**session.event_hooks, "response": on_answers}


def check_answer(answer: Any, *_: Any, **__: Any) -> None:
    """Raise HubError where the commit or the ETag of a file would lead out of the cache."""
    commit = answer.headers.get("X-Repo-Commit")
    if commit is None:
        return
    if not COMMIT.fullmatch(commit):
        raise HubError(
            f"{answer.request.url}: expected a commit of 40 hexadecimal digits, found"
            f" {shown(commit)}; is this a model hub?",
            name="X-Repo-Commit",
        )
    etag = answer.headers.get("X-Linked-Etag") or answer.headers.get("ETag")
    # Of a HEAD's answer alone the library makes a file's name.
    if answer.request.method == "HEAD" and etag is not None and not ETAG.fullmatch(etag):
        raise HubError(
            f"{answer.request.url}: expected an ETag that can be a file's name, found"
            f" {shown(etag)}; is this a model hub?",
            name="ETag",
        )


def _refusal(error: Exception, repo_id: str, revision: str | None, endpoint: str) -> str:
    from huggingface_hub import errors

    match error:
        case errors.HFValidationError():
            return f"{repo_id!r} is neither a folder here nor a model id (name or owner/name)"
        case errors.RevisionNotFoundError():
            return (
                f"{repo_id!r} has no revision {revision!r}; {endpoint}/{repo_id}/tree/main lists"
                " its branches, tags and commits"
            )
        case errors.GatedRepoError():
            return (
                f"{repo_id!r} is gated: accept its terms at {endpoint}/{repo_id}, then log in by"
                " `hf auth login` or set HF_TOKEN"
            )
    return (
        f"{endpoint} has no model {repo_id!r}, or shows it to its members only: then log in by"
        " `hf auth login` or set HF_TOKEN; if a folder is meant, it doesn't exist here"
    )
