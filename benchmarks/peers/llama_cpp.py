"""llama.cpp through llama-cpp-python's low-level calls, so that its Python loop costs nothing.

GGUF is written here by the gguf package's tensor map and quantized by llama_model_quantize, which
is what llama.cpp's own tools do. As many threads for prompts as for decoding, the prompt in one
micro-batch of 512, weights repacked for the processor, fp16 KV cache, flash attention as it
decides: its defaults. Rows of a batch are sequences of one context.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.engine import Engine as Base
from benchmarks.peers.engine import Ids, Logits

MODEL = "model.gguf"
MICRO_BATCH = 512


class Engine(Base):
    def __init__(self, folder: Path, threads: int) -> None:
        import llama_cpp

        self.api: Any = llama_cpp
        silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(silent, None)
        self._callbacks = silent  # ctypes would free it
        path = str(folder / MODEL).encode()
        self.model = llama_cpp.llama_model_load_from_file(
            path, llama_cpp.llama_model_default_params()
        )
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocab)
        self.threads = threads
        self.context: Any = None
        self.rows = 0
        self._open_context(1)

    def settings(self) -> dict[str, str]:
        return {"system": self.api.llama_print_system_info().decode().strip(" |")}

    def prompt(self, ids: Ids, room: int) -> Logits:
        if len(ids) != self.rows:
            self._open_context(len(ids))
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), False)
        self.length = ids.shape[1]
        return np.concatenate([self._decode(row[None], 0, at) for at, row in enumerate(ids)])

    def step(self, ids: Ids) -> Logits:
        self.length += 1
        return self._decode(ids[:, None], self.length - 1, 0)

    def encode(self, text: str) -> list[int]:
        data = text.encode()
        tokens = (self.api.llama_token * (len(data) + 1))()
        size = len(tokens)
        count = self.api.llama_tokenize(self.vocab, data, len(data), tokens, size, False, True)
        return list(tokens[:count])

    def decode(self, ids: list[int]) -> str:
        return b"".join(map(self._piece, ids)).decode(errors="replace")

    def _piece(self, id: int) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        length = self.api.llama_token_to_piece(self.vocab, id, buffer, len(buffer), 0, True)
        return buffer.raw[:length]

    def _open_context(self, rows: int) -> None:
        """A context for that many sequences, each of the model's full length."""
        if self.context:
            self.api.llama_free(self.context)
        params = self.api.llama_context_default_params()
        params.n_ctx = rows * self.api.llama_model_n_ctx_train(self.model)
        params.n_seq_max = rows
        params.n_batch = params.n_ubatch = MICRO_BATCH
        params.n_threads = params.n_threads_batch = self.threads
        self.context = self.api.llama_init_from_model(self.model, params)
        self.rows = rows

    def _decode(self, ids: Ids, start: int, first_row: int) -> Logits:
        """Append ids [rows, n] to sequences from `first_row` on: the last logits [rows, vocab]."""
        count = ids.shape[1]
        for at in range(0, count, MICRO_BATCH):
            chunk = ids[:, at : at + MICRO_BATCH]
            last = at + MICRO_BATCH >= count
            wanted = self._submit(chunk, start + at, first_row, last)
        where = [self.api.llama_get_logits_ith(self.context, index) for index in wanted]
        size = (self.vocab_size,)
        return np.stack([np.ctypeslib.as_array(pointer, size) for pointer in where])

    def _submit(self, ids: Ids, start: int, first_row: int, last: bool) -> list[int]:
        """Run ids [rows, n]; gives the places in the batch that have logits, where `last` asks."""
        rows, count = ids.shape
        batch = self.api.llama_batch_init(rows * count, 0, 1)
        batch.n_tokens = rows * count
        wanted = []
        for index, token in enumerate(ids.ravel().tolist()):
            row, position = divmod(index, count)
            batch.token[index], batch.pos[index] = token, start + position
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, first_row + row
            batch.logits[index] = last and position == count - 1
            if batch.logits[index]:
                wanted.append(index)
        failed = self.api.llama_decode(self.context, batch)
        self.api.llama_batch_free(batch)
        if failed:
            raise RuntimeError(f"llama_decode returned {failed}")
        return wanted


def convert(checkpoint: Path, folder: Path, ftype: str) -> None:
    import llama_cpp

    folder.mkdir(parents=True)
    whole, model = folder / "whole.gguf", folder / MODEL
    write_gguf(checkpoint, whole)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{ftype}")
    failed = llama_cpp.llama_model_quantize(str(whole).encode(), str(model).encode(), params)
    whole.unlink()
    if failed:
        raise RuntimeError(f"llama_model_quantize returned {failed}")


def write_gguf(checkpoint: Path, path: Path) -> None:
    """A GPT-2 checkpoint in float32 as GGUF."""
    import gguf

    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config.get("layer_norm_epsilon", 1e-5))
    write_vocabulary(writer, checkpoint, config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config["n_layer"])
    for name, tensor in tensors(checkpoint):
        ours = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if ours:  # masks that old checkpoints store have no name
            linear = name.startswith("h.") and tensor.ndim == 2  # Conv1D: [in, out]
            writer.add_tensor(ours, np.ascontiguousarray(tensor.T if linear else tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(checkpoint: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names without the model's prefix; a tied head isn't among them."""
    from safetensors import safe_open

    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118, not a mapping
                if name != "lm_head.weight":
                    tensor = file.get_tensor(name).astype(np.float32)
                    yield name.removeprefix("transformer."), tensor


def write_vocabulary(writer: Any, checkpoint: Path, config: dict[str, Any]) -> None:
    """The tokenizer, filled up to the embedding's rows as llama.cpp's converter does."""
    import gguf

    vocab, merges, special = read_tokenizer(checkpoint)
    size = config["vocab_size"]
    names, types = [f"[PAD{id}]" for id in range(size)], [gguf.TokenType.UNUSED] * size
    for token, id in vocab.items():
        names[id] = token
        types[id] = gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    if config.get("eos_token_id") is not None:
        writer.add_eos_token_id(config["eos_token_id"])


def read_tokenizer(checkpoint: Path) -> tuple[dict[str, int], list[str], set[str]]:
    """Ids by token, merges and special tokens, from tokenizer.json or from GPT-2's two files."""
    file = checkpoint / "tokenizer.json"
    if not file.exists():
        merges = (checkpoint / "merges.txt").read_text(encoding="utf-8").splitlines()
        pairs = [line for line in merges if line and not line.startswith("#version")]
        vocab = json.loads((checkpoint / "vocab.json").read_text(encoding="utf-8"))
        return vocab, pairs, {"<|endoftext|>"}
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    vocab, added = tokenizer["model"]["vocab"], tokenizer["added_tokens"]
    vocab |= {token["content"]: token["id"] for token in added}
    merges = tokenizer["model"]["merges"]
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    return vocab, pairs, {token["content"] for token in added if token["special"]}
