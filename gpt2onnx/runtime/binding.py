"""Binds the KV cache to a graph: past and present to one memory, so it is appended to in place."""

from __future__ import annotations

from typing import Any

from gpt2onnx.runtime.cache import Arena, CacheShape


def bind_cache(binding: Any, arena: Arena, shape: CacheShape, first: int, count: int) -> None:
    """Bind past and present of an onnxruntime.IOBinding to `count` rows from `first` on."""
    size = [count, shape.heads, arena.capacity, shape.head_dim]
    where = (*arena.device, shape.dtype.type, size)
    for tensor, address in enumerate(arena.addresses(first)):
        name = f"{tensor // 2}.{('key', 'value')[tensor % 2]}"
        binding.bind_input(f"past_key_values.{name}", *where, address)
        binding.bind_output(f"present.{name}", *where, address)
