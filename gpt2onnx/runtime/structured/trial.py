"""Compiles constraints in a process that can be ended, to see whether they take too long.

Run as a module it is that process: a tokenizer.json and a vocabulary's size are its arguments, a
line of JSON on standard input holds the parameters of one constraint, and a line on standard output
says that it was compiled or refused. Of one that takes too long, or too much memory, nothing is
said: the process is dead.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from gpt2onnx.errors import Gpt2OnnxError, ModelFolderError
from gpt2onnx.runtime.structured.grammars import GrammarCompiler
from gpt2onnx.samplers import GenerationParams
from gpt2onnx.tokenizer.file import read_tokenizer_json, tokenizer_of

# What a constraint may take. A process maps some 0.6 GB to begin with.
SECONDS: Final = 5.0
MEMORY: Final = 4 << 30
_SAID = b"done\n"


class Trial:
    """A process that compiles one constraint after the other for one model."""

    def __init__(self, tokenizer: Path, vocab_size: int, seconds: float = SECONDS) -> None:
        path = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-P", "-m", __name__]  # -P: nothing of the current folder
        self._process = subprocess.Popen(
            [*command, str(tokenizer), str(vocab_size), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "RAYON_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for who waits
        )
        assert self._process.stdout
        if self._process.stdout.readline() != _SAID:
            self.close()
            raise RuntimeError("the process that tries constraints doesn't start")

    def holds(self, params: GenerationParams) -> bool:
        """Whether the constraint is compiled, or refused, in time. After False it is of no use."""
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(constraint_of(params)).encode() + b"\n")
            self._process.stdin.flush()
        return self._process.stdout.readline() == _SAID

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            with suppress(OSError):
                stream.close()
        self._process.wait()


def constraint_of(params: GenerationParams) -> dict[str, object]:
    """The parameters that say what is compiled, as JSON can write them."""
    assert params.constraint
    name, value = params.constraint
    given = {name: value, "json_layout": params.json_layout, "eos_token_id": params.eos_token_ids}
    return {each: value for each, value in given.items() if value is not None}


def main(tokenizer: str, vocab_size: str, seconds: str) -> None:
    path = Path(tokenizer)
    text = read_tokenizer_json(path, ModelFolderError)
    compiler = GrammarCompiler(tokenizer_of(text, path, ModelFolderError), int(vocab_size))
    _limit_memory()
    _say()
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, float(seconds))  # whose signal ends the process
        with suppress(Gpt2OnnxError):  # whoever asks finds the same
            compiler.grammar(GenerationParams.create(json.loads(line), {}))
        signal.setitimer(signal.ITIMER_REAL, 0)
        _say()


def _say() -> None:
    sys.stdout.buffer.write(_SAID)
    sys.stdout.buffer.flush()


def _limit_memory() -> None:
    import resource

    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    main(*sys.argv[1:])
