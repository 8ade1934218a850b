"""Every error that gpt2onnx raises on purpose.

Gpt2OnnxError
├── InstallationError            ONNX Runtime or a package is missing, or two overwrite each other
├── CheckpointError              the source can't be read as a GPT-2 checkpoint
│   ├── UnsupportedConfigError   an option of GPT2Config, or an architecture, that is refused
│   ├── WeightsError             a tensor is missing, has the wrong shape, or holds NaN or infinity
│   ├── TokenizerError           no tokenizer, an unreadable one, or one of another size
│   └── HubError                 the model hub can't be reached, or has no such model
├── ExportError                  the model folder can't be written
│   ├── OutputExistsError        OUT exists already, or is no folder
│   ├── StorageError             the disk is full, or not writable
│   └── VerificationError        the exported model doesn't give PyTorch's logits
├── ModelFolderError             a folder is no model folder, or one that this version can't run
│   └── CorruptModelError        a file of it was truncated, changed or lost
├── ProviderError                an execution provider can't run here; says why
├── ParameterError               a parameter that is unknown, out of range, or without effect
├── PromptError                  a prompt that can't be generated from
│   ├── PromptTooLongError       more tokens than the model has positions
│   └── TokenRangeError          a token id that the model doesn't have
├── CacheFullError               a row of the KV cache has no room for another token
└── OutOfMemoryError             the device, or the machine, has no memory left

`exit_status` is what the command line returns: 2 where the user can mend the call, 1 where the
machine or the network failed.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import ClassVar

_ALONE = object()


class Gpt2OnnxError(Exception):
    """Base of all errors of this package. Its message is one line, made to be shown to a user.

    Whatever a file's name, a tensor's or a library's own message brings along, a terminal gets
    nothing but text: line breaks become spaces, other control characters their escapes.
    """

    exit_status: ClassVar[int] = 2

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """The same text on one line, with printable characters alone."""
    joined = " ".join(line.strip() for line in text.splitlines() if line.strip())
    return joined if joined.isprintable() else "".join(map(_printable, joined))


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


class InstallationError(Gpt2OnnxError):
    """ONNX Runtime or an optional package is missing, or two of them overwrite each other."""


class CheckpointError(Gpt2OnnxError):
    """The source can't be read as a GPT-2 checkpoint."""


class UnsupportedConfigError(CheckpointError):
    """An option of GPT2Config, or another architecture, that the export refuses by name."""


class WeightsError(CheckpointError):
    """A tensor is missing, has the wrong shape, or holds NaN or infinity."""


class TokenizerError(CheckpointError):
    """There is no tokenizer, an unreadable one, or one of another size than the model."""


class HubError(CheckpointError):
    """The model hub can't be reached, or has no such model."""

    exit_status = 1


class ExportError(Gpt2OnnxError):
    """The model folder can't be written."""


class OutputExistsError(ExportError):
    """The place to write to exists already, or is not a folder."""


class StorageError(ExportError):
    """The disk is full, or not writable."""

    exit_status = 1


class VerificationError(ExportError):
    """The exported model doesn't give PyTorch's logits within its precision's bounds."""

    exit_status = 1


class ModelFolderError(Gpt2OnnxError):
    """A folder is no model folder, or one that this version can't run."""


class CorruptModelError(ModelFolderError):
    """A file of a model folder was truncated, changed or lost."""


class ProviderError(Gpt2OnnxError):
    """An execution provider can't run here. The message says why, and what would mend it."""


@dataclass(frozen=True)
class Given:
    """A parameter as an error names it: with the value that came, or alone."""

    name: str
    value: object = _ALONE

    @property
    def alone(self) -> bool:
        return self.value is _ALONE

    def __str__(self) -> str:
        """As Python's keywords have it."""
        return self.name if self.alone else f"{self.name}={shown(self.value)}"


def shown(value: object) -> str:
    """A value as an error shows it: short, and a function by no address."""
    return getattr(value, "__name__", "…") if callable(value) else reprlib.repr(value)


class ParameterError(Gpt2OnnxError, ValueError):
    """A parameter that is unknown, out of range, or without effect beside the others.

    `parts` are the message in pieces: text, and the parameters that it names, which an interface
    with other names for them can name in its own way. `parameters` are those that came with values.
    """

    def __init__(self, *parts: str | Given) -> None:
        self.parts = parts
        super().__init__("".join(map(str, parts)))

    @property
    def parameters(self) -> dict[str, object]:
        return {p.name: p.value for p in self.parts if isinstance(p, Given) and not p.alone}

    def __reduce__(self) -> tuple[type[ParameterError], tuple[str | Given, ...]]:
        return type(self), self.parts


class PromptError(Gpt2OnnxError, ValueError):
    """A prompt that can't be generated from."""


class PromptTooLongError(PromptError):
    """A prompt has more tokens than the model has positions."""


class TokenRangeError(PromptError):
    """A prompt holds a token id that the model doesn't have."""


class CacheFullError(Gpt2OnnxError):
    """A row of the KV cache has no room for another token."""


class OutOfMemoryError(Gpt2OnnxError, MemoryError):
    """The device, or the machine, has no memory for the KV cache or for a run."""

    exit_status = 1
