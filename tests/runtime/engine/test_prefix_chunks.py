"""Keys of chunks: worked by hand with hashlib, and different wherever anything differs."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from gpt2onnx.runtime.decoder.arena import CacheShape
from gpt2onnx.runtime.engine.prefix_chunks import CHUNK, chunks, model_digest, seed_of

SHAPE = CacheShape(2, 3, 8, 1024, np.dtype(np.float32))


def test_a_key_is_the_hash_of_all_before() -> None:
    ids = np.arange(2 * CHUNK + 5)
    seed = b"seed"
    first = hashlib.sha256(seed + b"".join(n.to_bytes(8, "little") for n in range(64))).digest()
    second = hashlib.sha256(first + b"".join(n.to_bytes(8, "little") for n in range(64, 128)))
    found = list(chunks(ids, seed))
    assert [chunk.key for chunk in found] == [first, second.digest()]
    assert [chunk.ids.tolist() for chunk in found] == [[*range(64)], [*range(64, 128)]]


def test_whatever_decides_keys_and_values_changes_the_digest() -> None:
    files = {"model.onnx": "12", "model.onnx.data": "34"}
    digests = {
        model_digest(files, SHAPE),
        model_digest({**files, "model.onnx": "13"}, SHAPE),
        model_digest({**files, "provider": "cuda"}, SHAPE),
        model_digest(files, replace(SHAPE, layers=3)),
        model_digest(files, replace(SHAPE, heads=6, head_dim=4)),
        model_digest(files, replace(SHAPE, dtype=np.dtype(np.float16))),
        model_digest(files, replace(SHAPE, dtype=np.dtype(np.int8))),
        model_digest(files, replace(SHAPE, dtype=np.dtype(np.uint8))),
    }
    assert len(digests) == 8
    assert model_digest(dict(reversed(files.items())), replace(SHAPE, n_positions=5)) in digests


def test_a_seed_is_a_tenants_a_models_and_a_secrets() -> None:
    seeds = {
        seed_of(tenant, model, secret)
        for tenant in (None, "", "a", "b")
        for model in (b"model" * 8, b"other" * 8)
        for secret in (b"secret", b"another")
    }
    assert len(seeds) == 4 * 2 * 2
