"""Tries a tokenizer in a process of its own: it may panic, run out of memory or hang.

Run as a module it is that process: a tokenizer.json on standard input, on standard output what
went wrong, nothing where all went well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from tokenizers import Tokenizer

from gpt2onnx.tokenizer.library import is_panic

# Memory that the process may map beside what the file's size explains, and seconds it may take.
MEMORY = 2 << 30
MEMORY_PER_BYTE = 10
SECONDS = 30
# Decoded one by one.
_IDS = 2000


def failure(text: str) -> str:
    """What goes wrong where a tokenizer.json is opened and used; empty where nothing does.

    What the library refuses in an orderly way, now or for some text, is no failure.
    """
    path = os.pathsep.join(filter(None, sys.path))
    env = {**os.environ, "PYTHONPATH": path, "RAYON_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", __name__]  # -P: nothing of the current folder
    try:
        tried = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=SECONDS, env=env, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it takes more than {SECONDS} seconds for a few short texts"
    if tried.returncode == 0:
        return tried.stdout.decode(errors="replace")
    said = tried.stderr.decode(errors="replace").strip().splitlines() or [""]
    return f"the tokenizers library died of it (status {tried.returncode}): {said[-1]}"


def main() -> None:
    content = sys.stdin.buffer.read()
    _limit_memory(MEMORY + MEMORY_PER_BYTE * len(content))
    try:
        _use(content.decode())
    except BaseException as raised:
        if not is_panic(raised):
            raise
        print(raised)


def _use(text: str) -> None:
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception:  # the caller is told the same
        return
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for each in _texts(json.loads(text)):
        with suppress(Exception):
            tokenizer.decode(tokenizer.encode(each).ids, skip_special_tokens=False)
    ids = sorted(tokenizer.get_vocab().values())
    with suppress(Exception):
        tokenizer.decode_batch([[index] for index in ids[:_IDS]], skip_special_tokens=False)
        tokenizer.decode(ids[:_IDS], skip_special_tokens=True)


def _texts(parts: dict[str, Any]) -> Iterator[str]:
    """Short texts of all kinds of characters and runs, and those that the parts speak of."""
    yield ""
    yield " ".join(map(chr, range(0x500)))
    yield "".join(chr(c) for c in range(0x500, 0x20000, 61) if not 0xD800 <= c < 0xE000)
    for run in ("a", " ", "\n", "0", ".", "é", "日", "ab ", "a1!"):
        yield run * 1500
    places = (parts.get(place) for place in ("normalizer", "pre_tokenizer", "decoder"))
    for found in places:
        yield from _strings(found)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value[:1000]
        yield value[:10] * 100
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def _limit_memory(most: int) -> None:
    try:
        import resource
    except ImportError:  # no POSIX
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
