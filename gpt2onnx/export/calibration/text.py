"""The calibration tokens of an export: a text's, or random ones, or what the model writes.

Keys and values depend on the position as much as on the token, so every position is filled: with a
text that ended after 218 of 1,024 positions, a model was worthless behind them
(docs/notes/decoder.md).
"""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import ParameterError, TokenizerError
from gpt2onnx.export.calibration.own_text import write_texts
from gpt2onnx.export.checkpoint.checkpoint import Checkpoint
from gpt2onnx.export.writing.progress import Track, silent
from gpt2onnx.files import as_path, decoded, open_regular
from gpt2onnx.tokenizer.codec import encode

Ids = NDArray[np.int64]

# More brought nothing (docs/notes/decoder.md).
TOKENS = 1024
# Bytes that are read of a file: more than any use of them takes.
ENOUGH = 1 << 20


class CalibrationText:
    """A checkpoint's tokens of the beginning of a file in UTF-8, read once.

    Without one they are random, which show what any token can bring about, or are the model's own,
    which show what is usual.
    """

    def __init__(self, checkpoint: Checkpoint, file: str | Path | None) -> None:
        """Raises ParameterError where the file can't be read or holds no token."""
        self._checkpoint = checkpoint
        self._ids = (
            [] if file is None else encode(checkpoint.tokenizer, _read(file), TokenizerError)
        )
        if file is not None and not self._ids:
            raise ParameterError(f"{file}: expected a text, found no token in it", path=file)

    def windows(self, tokens: int = TOKENS) -> Ids:
        """At least that many: ids [texts, n_positions], which fill all positions.

        A short text is repeated.
        """
        if self._ids:
            return np.resize(np.array(self._ids), self._shape(tokens))
        return np.random.default_rng(0).integers(
            self._checkpoint.config.vocab_size, size=self._shape(tokens)
        )

    def usual_windows(self, tokens: int, track: Track = silent) -> Ids:
        """The same of the text, or of what the model writes: short texts, one behind the other."""
        if self._ids:
            return self.windows(tokens)
        return np.resize(write_texts(self._checkpoint, tokens, track), self._shape(tokens))

    def _shape(self, tokens: int) -> tuple[int, int]:
        length = self._checkpoint.config.n_positions
        return -(-tokens // length), length


def _read(file: str | Path) -> str:
    path = as_path(file, "calibration", ParameterError)
    with open_regular(path, ParameterError) as text:
        start = text.read(ENOUGH)
    try:
        # A character may be cut where the reading ends, but not where the file does.
        decoder = codecs.getincrementaldecoder("utf-8")()
        return decoder.decode(start, final=len(start) < ENOUGH).removeprefix("\ufeff")
    except UnicodeDecodeError:
        return decoded(start, path, ParameterError)  # says what is wrong with it
