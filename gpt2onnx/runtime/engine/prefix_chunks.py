"""Prompts in chunks of 64 tokens, and the keys under which what was read of them is found.

A key is a SHA-256 over the chunk's ids and the key before it, so it stands for the whole prompt up
to there, and for the seed that the chain began with. Knows ids; knows no keys and values.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gpt2onnx.runtime.decoder.arena import CacheShape
from gpt2onnx.runtime.decoder.protocol import Ids

CHUNK = 64


class Chunk(NamedTuple):
    """A chunk's key, and its ids [CHUNK]."""

    key: bytes
    ids: Ids


def model_digest(identity: Mapping[str, Any], shape: CacheShape) -> bytes:
    """A digest of what keys and values depend on besides the tokens.

    `identity` is in JSON's types: a model folder's own, and whatever else decides their bits.
    """
    cache = [shape.layers, shape.heads, shape.head_dim, shape.dtype.str]
    return hashlib.sha256(json.dumps([identity, cache], sort_keys=True).encode()).digest()


def seed_of(tenant: str | None, model: bytes, secret: bytes) -> bytes:
    """Where a tenant's chain begins: nobody without the secret can tell its keys."""
    name = b"" if tenant is None else b"=" + tenant.encode("utf-8", "surrogatepass")
    return hmac.digest(secret, model + name, "sha256")


def chunks(ids: Ids, seed: bytes) -> Iterator[Chunk]:
    """The whole chunks of ids [n], in order; what is left over at the end is in none."""
    key = seed
    for start in range(0, len(ids) // CHUNK * CHUNK, CHUNK):
        part = ids[start : start + CHUNK]
        key = hashlib.sha256(key + np.ascontiguousarray(part, "<i8").tobytes()).digest()
        yield Chunk(key, part)
