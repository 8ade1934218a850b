"""Compares the memory that a call needs with what is available, before anything is allocated.

The cache is reserved for the longest that each sequence may become, so that is what counts: a call
that would run into the system's own limit later, and be killed there, is refused at once. Knows
sizes; knows nothing of what the memory is for.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpt2onnx.errors import OutOfMemoryError
from gpt2onnx.runtime.machine.memory import available_memory, total_memory

# Whatever else a sequence has: its sampler, its text, its tokens (measured: 7 kB).
SEQUENCE = 8 << 10
# Arrays of all logits that a row has at a time: the model's own, what penalties and scores make
# of them.
ROWS_OF_LOGITS = 4
# So little is there without asking, which takes as long as a small model's step.
LITTLE = 256 << 20


@dataclass(frozen=True)
class Room:
    """The memory that rows of one model take: bytes a token in the cache, and a row's logits."""

    token_bytes: int
    vocab_size: int
    n_positions: int

    def require(self, rows: int, length: int) -> None:
        """See that there is memory for so many rows of so many tokens. Raises OutOfMemoryError."""
        tokens = min(length, self.n_positions)
        each = tokens * self.token_bytes + 4 * ROWS_OF_LOGITS * self.vocab_size + SEQUENCE
        wanted = rows * each
        if wanted <= LITTLE:
            return
        left = available_memory()
        if left is None:
            left = total_memory()
        if left is not None and wanted > left:
            raise OutOfMemoryError(
                f"{rows:,} sequences of {tokens:,} tokens want {wanted / 1e9:,.1f} GB of memory, "
                f"{left / 1e9:,.1f} GB are left on this machine, enough for {left // each:,} of "
                "them: take fewer prompts, sequences or beams at once, or shorter ones",
                found=wanted,
                expected=left,
            )
