"""transformers' GPT2LMHeadModel in PyTorch: as it is, in bfloat16, or compiled.

Attention is SDPA, its default and its fastest on the CPU. Logits are computed for the prompt's last
position alone (logits_to_keep), as its generate() does. Compiled means what generate() does with
cache_implementation="static": a cache of fixed size, the decoding step compiled by inductor, the
prompt not; sizes are the prompt's and the new tokens', so each length compiles once, untimed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.engine import Engine as Base
from benchmarks.peers.engine import Ids, Logits, TokenizersText


def convert(checkpoint: Path, folder: Path) -> None:
    """transformers reads the checkpoint itself."""
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).symlink_to(path)


class Engine(TokenizersText, Base):
    def __init__(self, folder: Path, threads: int, dtype: str, compiled: bool = False) -> None:
        from transformers import GPT2LMHeadModel

        torch.set_num_threads(threads)
        self.model: Any = GPT2LMHeadModel.from_pretrained(folder, dtype=getattr(torch, dtype))
        self.model.eval()
        self.compiled = torch.compile(self.model.forward, dynamic=False) if compiled else None
        self.folder = folder

    def prompt(self, ids: Ids, room: int) -> Logits:
        self.length = ids.shape[1]
        self.cache = self._static_cache(self.length + room) if self.compiled else None
        return self._run(self.model.forward, ids)

    def step(self, ids: Ids) -> Logits:
        self.length += 1
        return self._run(self.compiled or self.model.forward, ids[:, None])

    def encode(self, text: str) -> list[int]:
        self._open_tokenizer()
        return super().encode(text)

    @torch.inference_mode()
    def _run(self, forward: Any, ids: Ids) -> Logits:
        start = self.length - ids.shape[1]
        output = forward(
            input_ids=torch.from_numpy(ids),
            position_ids=torch.arange(start, self.length)[None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = output.past_key_values
        logits: Logits = output.logits[:, -1].float().numpy()
        return logits

    def _static_cache(self, length: int) -> Any:
        from transformers import StaticCache

        return StaticCache(config=self.model.config, max_cache_len=length)

    def _open_tokenizer(self) -> None:
        """By AutoTokenizer, as its users would."""
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(self.folder).backend_tokenizer
