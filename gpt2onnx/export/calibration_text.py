"""The tokens that an export is calibrated with: a text's, or random ones where there is none.

Keys and values depend on the position as much as on the token, so every position is filled: with a
text that ended after 218 of 1,024 positions, a model was worthless behind them (docs/log.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt2onnx.errors import ParameterError
from gpt2onnx.export.checkpoint import Checkpoint

Ids = NDArray[np.int64]

MAX_TEXTS = 2


def calibration_ids(checkpoint: Checkpoint, file: str | Path | None) -> Ids:
    """Texts that fill all positions, of a file in UTF-8 where one is given: [texts, n_positions].

    A long file is read from its beginning, to MAX_TEXTS texts; a short one is repeated. Errors:
    ParameterError where it can't be read or holds no token.
    """
    length, vocab_size = checkpoint.config.n_positions, checkpoint.config.vocab_size
    if file is None:
        return np.random.default_rng(0).integers(vocab_size, size=(1, length))
    ids = checkpoint.tokenizer.encode(_read(file)).ids
    if not ids:
        raise ParameterError(f"calibration={str(file)!r}: expected a text, found no token in it")
    return np.resize(np.array(ids), (min(max(len(ids) // length, 1), MAX_TEXTS), length))


def _read(file: str | Path) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ParameterError(f"calibration={str(file)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        byte = f"the byte 0x{error.object[error.start]:02x} at {error.start}"
        raise ParameterError(f"calibration={str(file)!r}: expected UTF-8, found {byte}") from error
