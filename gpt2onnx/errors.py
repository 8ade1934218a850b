"""Every error that gpt2onnx raises on purpose.

Gpt2OnnxError
├── InstallationError            ONNX Runtime or a package is missing, or two overwrite each other
├── CheckpointError              the source can't be read as a GPT-2 checkpoint
│   ├── UnsupportedConfigError   an option of GPT2Config, or an architecture, that is refused
│   ├── WeightsError             a tensor is missing, has the wrong shape, or holds NaN or infinity
│   ├── TokenizerError           no tokenizer, an unreadable one, or one of another size
│   ├── HubError                 the model hub can't be reached, or has no such model
│   └── AdapterError             no LoRA adapter, or one that was made for another model
├── ExportError                  the model folder can't be written
│   ├── OutputExistsError        OUT exists already, or is no folder
│   ├── StorageError             the disk is full, or not writable
│   └── VerificationError        the exported model doesn't give PyTorch's logits
├── ModelFolderError             a folder is no model folder, or one that this version can't run
│   └── CorruptModelError        a file of it was truncated, changed or lost
├── PrefixFileError              a prompt kept on disk is damaged, or another model's
├── ProviderError                an execution provider can't run here; says why
├── ParameterError               a parameter that is unknown, out of range, or without effect
├── PromptError                  a prompt that can't be generated from
│   ├── PromptTooLongError       more tokens than the model has positions
│   └── TokenRangeError          a token id that the model doesn't have
├── CacheFullError               a row of the KV cache has no room for another token
├── QueueFullError               as many requests wait for the engine as may
├── RequestCancelledError        a request that was cancelled, or whose engine was closed
│   └── EngineClosedError        by the engine's end, or because it was closed before
├── RequestExpiredError          a request whose deadline came before its turn
├── ServerError                  the server can't start: its address, its keys, its models' names
├── BatchError                   a batch job can't go on: its workers die, or its cluster is gone
├── RequestError                 an HTTP request that the server refuses, with its status
└── OutOfMemoryError             the device, or the machine, has no memory left

`exit_status` is what the command line returns: 2 where the user can mend the call, 1 where the
machine or the network failed.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


class _Alone:
    """Stands for a value that isn't said; a class is itself behind a pipe, too."""


class Plain(str):
    """A value that a message shows as it is: without quotation marks, and whole."""


@dataclass(frozen=True)
class Given:
    """A parameter as an error names it: with the value that came, or alone."""

    name: str
    value: object = _Alone

    @property
    def alone(self) -> bool:
        return self.value is _Alone

    def __str__(self) -> str:
        """As Python's keywords have it."""
        return self.name if self.alone else f"{self.name}={shown(self.value)}"


class Advised(Given):
    """A parameter, or a value of it, that would do and that nobody gave."""


class Gpt2OnnxError(Exception):
    """Base of all errors of this package; catch it to catch them all.

    The message is one line: what was expected, what came, and what to do. Whatever a file's name, a
    tensor's or a library's own message brings along, a terminal gets nothing but text: line breaks
    become spaces, other control characters their escapes.

    What a program may want to know of it needn't be read from the message: `path` is the file or
    folder that it is about, `name` what in there, or which one of many (a tensor, a setting, a
    token, a package, a provider); `named` and `parameters` are what was given; `found` and
    `expected` are the two numbers that don't go together (a file's bytes, a prompt's tokens, or the
    most that there may be). Each is None, or empty, where there is no such thing.
    """

    exit_status: ClassVar[int] = 2

    def __init__(
        self,
        *parts: str | Given,
        path: str | os.PathLike[str] | None = None,
        name: str | None = None,
        found: float | None = None,
        expected: float | None = None,
    ) -> None:
        """`parts` are the message in pieces: text, and the parameters that it names."""
        self.parts = parts
        self.path = None if path is None else Path(path)
        self.name = name
        self.found, self.expected = found, expected
        super().__init__(self.told())

    def told(self, naming: Callable[[Given], str] = str) -> str:
        """The message, with parameters named as Python's keywords or otherwise."""
        return one_line("".join(p if isinstance(p, str) else naming(p) for p in self.parts))

    @property
    def named(self) -> tuple[str, ...]:
        """The parameters that the message names, in its order; not what it advises."""
        given = (p for p in self.parts if isinstance(p, Given) and not isinstance(p, Advised))
        return tuple(dict.fromkeys(each.name for each in given))

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters that the message names with the values that came."""
        named = (p for p in self.parts if isinstance(p, Given) and not isinstance(p, Advised))
        return {each.name: each.value for each in named if not each.alone}

    def __reduce__(self) -> tuple[type[Gpt2OnnxError], tuple[str | Given, ...], dict[str, Any]]:
        return type(self), self.parts, vars(self)


def one_line(text: str) -> str:
    """The same text on one line, with printable characters alone."""
    return printable(" ".join(line.strip() for line in text.splitlines() if line.strip()))


def printable(text: str) -> str:
    """The same text with escapes for line breaks and whatever else a terminal would act on."""
    return text if text.isprintable() else "".join(map(_printable, text))


def shown(value: object) -> str:
    """A value as a message shows it: Python's own form, a long one shortened, a function's name."""
    if isinstance(value, Plain):
        return str(value)
    try:
        return str(value.__name__) if hasattr(value, "__name__") else _SHORT.repr(value)
    except Exception:  # of a value's own __repr__
        return f"a {type(value).__name__}"


class _Short(reprlib.Repr):
    """As reprlib.repr, which fails on integers of thousands of digits."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 100

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > 256:
            return f"an integer of {x.bit_length()} bits"
        return super().repr_int(x, level)


_SHORT = _Short()


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


class InstallationError(Gpt2OnnxError):
    """ONNX Runtime or an optional package is missing, broken, or overwritten by another one.

    Run the pip command that the message names. `gpt2onnx doctor` shows what is installed and what
    of it runs.
    """


class CheckpointError(Gpt2OnnxError):
    """The source of an export can't be read as a GPT-2 checkpoint.

    Give a folder that transformers' save_pretrained wrote, or a hub's model id. The message names
    the file that is missing or damaged: fetch it, or save the checkpoint again.
    """


class UnsupportedConfigError(CheckpointError):
    """config.json has an option, a value or an architecture that the export refuses by name.

    Only what transformers loads as GPT2LMHeadModel can be exported. Correct the value if it is a
    mistake; nothing is exported to other answers than transformers gives.
    """


class WeightsError(CheckpointError):
    """A tensor of a checkpoint is missing, has another shape or type, or holds NaN or infinity.

    The message names the tensor and what was expected of it. Fetch the file again, or save the
    checkpoint again from a model that holds numbers.
    """


class TokenizerError(CheckpointError):
    """A checkpoint has no tokenizer, an unreadable one, or one of another size than the model.

    Save the model's own beside it, with AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER).
    """


class HubError(CheckpointError):
    """The model hub can't be reached, or has no such model, revision or file.

    Check the name and the connection; log in where the model is gated. A folder that was
    downloaded before needs no hub.
    """

    exit_status = 1


class AdapterError(CheckpointError):
    """A folder is no LoRA adapter of PEFT's, a damaged one, or one that was made for another model.

    Give the folder that PEFT's save_pretrained wrote, and the base model that it was trained on.
    Adapters of another kind are merged by PEFT's merge_and_unload(), and the result exported.
    """


class ExportError(Gpt2OnnxError):
    """A model folder, or another file that was asked for, can't be written. Base of the next three.

    Whatever was at its place is still there, whole.
    """


class OutputExistsError(ExportError):
    """The place to write to exists already, or is something that isn't replaced.

    Choose another place; force=True (--force) replaces a model folder, and nothing else.
    """


class StorageError(ExportError):
    """A disk is full or can't be written to, or there is no folder for the cache.

    Free some space, choose another place, or set GPT2ONNX_CACHE to a folder that can be written.
    """

    exit_status = 1


class VerificationError(ExportError):
    """An exported model doesn't give PyTorch's logits within its precision's bounds.

    Nothing was written. Export it in another precision, or with a text to calibrate it with
    (--calibration); verify=False (--no-verify) takes the model as it is.
    """

    exit_status = 1


class ModelFolderError(Gpt2OnnxError):
    """A folder is no model folder, or one that this version can't run.

    Give what `gpt2onnx export` or Optimum wrote; of a checkpoint make a model folder with
    `gpt2onnx export SOURCE OUT`.
    """


class CorruptModelError(ModelFolderError):
    """A file of a model folder was truncated, changed or lost since it was exported.

    Copy the folder again, or export the model again. `gpt2onnx inspect DIR --check` compares every
    file with its checksum.
    """


class PrefixFileError(Gpt2OnnxError):
    """A file with a prompt's keys and values is damaged, none at all, or another model's.

    Save the prompt again with the model that is to use it.
    """


class ProviderError(Gpt2OnnxError):
    """An execution provider (cpu, cuda or another) can't run here, or fails on this model.

    The message says why, and what would mend it; provider="auto" takes one that runs, and
    `gpt2onnx doctor` tries them all.
    """


class ParameterError(Gpt2OnnxError, ValueError):
    """A parameter is unknown, out of range, or without effect beside the others.

    The message names it with what it may be. On the command line it is named as an option.
    """


class PromptError(Gpt2OnnxError, ValueError):
    """A prompt or another text is missing, empty, unreadable, or no UTF-8.

    Give the text as an argument, as a file in UTF-8, or on standard input.
    """


class PromptTooLongError(PromptError):
    """A prompt has more tokens than the model has positions.

    Shorten it, or let overflow="truncate" keep its end; overflow="slide" writes on and forgets.
    """


class TokenRangeError(PromptError):
    """A prompt holds a token id that the model doesn't have.

    Use the ids of the model's own tokenizer.
    """


class CacheFullError(Gpt2OnnxError):
    """A row of the KV cache has no room for another token. Only who drives a decoder meets it.

    Reserve more before the row is made, or cut it shorter.
    """


class QueueFullError(Gpt2OnnxError):
    """As many requests wait for an engine as its queue takes; this one was not taken.

    Ask again when some are done, or let more of them wait.
    """

    exit_status = 1


class RequestCancelledError(Gpt2OnnxError):
    """A request was cancelled: nothing more comes of it.

    Somebody called its handle's `cancel`.
    """

    exit_status = 1


class EngineClosedError(RequestCancelledError):
    """The engine was closed before the request was done, or before it came.

    Ask an open one.
    """


class RequestExpiredError(Gpt2OnnxError):
    """A request's deadline came while it still waited: it was given up.

    Give it more time, or ask again when less is asked for.
    """

    exit_status = 1


class ServerError(Gpt2OnnxError):
    """The server can't start: an address that can't be listened on, a file of keys, a model's name.

    Choose another port or host, or mend what the message names.
    """


class BatchError(Gpt2OnnxError):
    """A batch job can't go on: its workers die again and again, or its cluster can't be used.

    What is done is kept. Mend what the message names, and go on with resume=True (--resume).
    """

    exit_status = 1


class RequestError(Gpt2OnnxError):
    """An HTTP request that the server refuses. Clients get it as OpenAI's error object.

    Mend the request as the message says; with 429 and 503 ask again later.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        **about: Any,
    ) -> None:
        super().__init__(message, **about)
        self.status, self.param, self.code = status, param, code
        self.retry_after = retry_after  # seconds


class OutOfMemoryError(Gpt2OnnxError, MemoryError):
    """The device, or the machine, has no memory for the KV cache or for a run.

    Ask for fewer sequences at once, shorter ones, or a smaller precision; an int8 KV cache takes a
    quarter.
    """

    exit_status = 1


class TextWarning(UserWarning):
    """A text to learn from that its reader knows nothing of: of another language, or no text."""


class SettingsWarning(UserWarning):
    """A setting of a checkpoint, or an export's default, that its model folder doesn't get, or
    can't be used with."""
