"""A checkpoint's files from a model hub, in huggingface_hub's own cache.

Endpoint, token, cache folder, offline mode and progress bars are huggingface_hub's own, as its
environment variables set them. Of the contents only config.json's are heeded here: a model that can't
be exported is refused before its weights are downloaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gpt2onnx.errors import HubError, InstallationError
from gpt2onnx.export.config import Gpt2Config
from gpt2onnx.export.json_file import read_json
from gpt2onnx.export.tensors import WEIGHTS_FILES, read_weight_map
from gpt2onnx.export.tokenizer import TOKENIZER_FILES

ADAPTER = "adapter_config.json"
"""Fetched only to be refused: transformers would load the adapter with the model."""

OPTIONAL_FILES = ("generation_config.json", ADAPTER, *TOKENIZER_FILES)


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint in the cache, and the commit that it is of."""

    folder: Path
    commit: str


def fetch(repo_id: str, revision: str | None = None) -> Snapshot:
    """Download a checkpoint, or what is new of it. `revision` is a branch, a tag or a commit.

    Raises HubError where that fails, and UnsupportedConfigError where it can't be exported.
    """
    config = _download_required(repo_id, "config.json", revision)
    Gpt2Config.from_json(read_json(config))
    commit = config.parent.name
    for name in OPTIONAL_FILES:
        _download(repo_id, name, commit)
    _download_weights(repo_id, commit)
    return Snapshot(config.parent, commit)


def _download_weights(repo_id: str, commit: str) -> None:
    """The first kind of weights that the model has, and no other."""
    for name in WEIGHTS_FILES:
        path = _download(repo_id, name, commit)
        if path is None:
            continue
        if path.suffix == ".json":
            for shard in sorted(set(read_weight_map(path).values())):
                _download_required(repo_id, shard, commit)
        return
    raise _missing(repo_id, " or ".join(WEIGHTS_FILES))


def _download_required(repo_id: str, name: str, revision: str | None) -> Path:
    path = _download(repo_id, name, revision)
    if path is None:
        raise _missing(repo_id, name)
    return path


def _download(repo_id: str, name: str, revision: str | None) -> Path | None:
    """The path of a file in the cache. None where the model has none or, offline, the cache."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise InstallationError(
            f"{repo_id!r} is no folder here, and downloading it needs huggingface_hub;"
            " install it: pip install 'gpt2onnx[export]'"
        ) from error
    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")
    try:
        return Path(hub.hf_hub_download(repo_id, name, revision=revision, endpoint=endpoint))
    except errors.LocalEntryNotFoundError as error:
        cached = hub.try_to_load_from_cache(repo_id, name, revision=revision)
        if constants.HF_HUB_OFFLINE or cached is hub._CACHED_NO_EXIST:
            return None
        raise HubError(
            f"{endpoint} can't be reached for {name} of {repo_id!r}, which isn't in the cache"
            f" ({_first_line(error.__cause__ or error)}); mend the network or HF_ENDPOINT, or give"
            " a checkpoint's folder"
        ) from error
    except errors.EntryNotFoundError:
        return None
    except Exception as error:  # HTTP, TLS and disk: the types depend on huggingface_hub's version
        raise HubError(_explain(error, repo_id, name, revision, endpoint)) from error


def _explain(error: Exception, repo_id: str, name: str, revision: str | None, endpoint: str) -> str:
    """What went wrong, and what to do about it."""
    from huggingface_hub import errors

    match error:
        case errors.HFValidationError():
            return f"{repo_id!r} is neither a folder here nor a model id (name or owner/name)"
        case errors.GatedRepoError():
            return (
                f"{repo_id!r} is gated: accept its terms at {endpoint}/{repo_id}, then log in by"
                " `hf auth login` or set HF_TOKEN"
            )
        case errors.RepositoryNotFoundError():
            return (
                f"{endpoint} has no model {repo_id!r}, or shows it to its members only: then log in"
                " by `hf auth login` or set HF_TOKEN; if a folder is meant, it doesn't exist here"
            )
        case errors.RevisionNotFoundError():
            return (
                f"{repo_id!r} has no revision {revision!r}; {endpoint}/{repo_id}/tree/main lists"
                " its branches, tags and commits"
            )
    return f"{name} of {repo_id!r} can't be downloaded from {endpoint}: {_first_line(error)}"


def _missing(repo_id: str, name: str) -> HubError:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return HubError(
            f"HF_HUB_OFFLINE is set and {constants.HF_HUB_CACHE} has no {name} of {repo_id!r};"
            " download it with HF_HUB_OFFLINE unset"
        )
    return HubError(f"{repo_id!r} has no {name}; expected a GPT-2 checkpoint of transformers")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
