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

# More brought nothing (docs/log.md).
TOKENS = 1024


def calibration_ids(checkpoint: Checkpoint, file: str | Path | None, tokens: int = TOKENS) -> Ids:
    """At least that many tokens: ids [texts, n_positions], which fill all positions.

    They are the first of a file in UTF-8 where one is given; a short one is repeated. Errors:
    ParameterError where it can't be read or holds no token.
    """
    config = checkpoint.config
    shape = -(-tokens // config.n_positions), config.n_positions
    if file is None:
        return np.random.default_rng(0).integers(config.vocab_size, size=shape)
    ids = checkpoint.tokenizer.encode(_read(file)).ids
    if not ids:
        raise ParameterError(f"calibration={str(file)!r}: expected a text, found no token in it")
    return np.resize(np.array(ids), shape)


def _read(file: str | Path) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ParameterError(f"calibration={str(file)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        byte = f"the byte 0x{error.object[error.start]:02x} at {error.start}"
        raise ParameterError(f"calibration={str(file)!r}: expected UTF-8, found {byte}") from error
