"""API keys: a file of them, kept as hashes, each with its owner's name.

A line of the file is a key, or an owner's name, a colon and a key; # begins a comment.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from gpt2onnx.errors import RequestError, ServerError
from gpt2onnx.files import read_text

MOST_BYTES = 1_000_000
LEAST_CHARACTERS = 8


class Keys:
    """Who may ask."""

    def __init__(self, owners: dict[bytes, str]) -> None:
        self._owners = owners

    def owner(self, authorization: str | None) -> str:
        """Whose key an Authorization header bears. Raises RequestError.

        All keys are compared, each in the same time, whichever fits.
        """
        scheme, _, key = (authorization or "").partition(" ")
        digest = _digest(key.strip())
        found = [
            owner for known, owner in self._owners.items() if hmac.compare_digest(known, digest)
        ]
        if scheme.lower() != "bearer" or not found:
            what = "missing" if authorization is None else "not valid"
            raise RequestError(
                f"the API key is {what}: expected Authorization: Bearer KEY",
                401,
                code="invalid_api_key",
            )
        return found[0]


def read_keys(path: Path) -> Keys:
    """The keys of a file. Raises ServerError."""
    owners: dict[bytes, str] = {}
    lines = read_text(path, ServerError, MOST_BYTES).splitlines()
    for number, line in enumerate(lines, 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        name, colon, key = content.partition(":")
        owner, key = (name.strip(), key.strip()) if colon else ("", content)
        if len(key) < LEAST_CHARACTERS or not key.isascii() or not key.isprintable():
            raise ServerError(
                f"{path}, line {number}: expected a key of at least {LEAST_CHARACTERS} ASCII "
                "characters, alone or behind NAME:",
                path=path,
            )
        digest = _digest(key)
        owners[digest] = owner or digest.hex()[:12]
    if not owners:
        raise ServerError(f"{path}: no key in it; expected one a line", path=path)
    return Keys(owners)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
