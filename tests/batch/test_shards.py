"""Shards are whole lines, all of them, once; beside Python's own way to split."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2onnx.batch import lines, shards

FILES = st.lists(st.lists(st.sampled_from([b"", b"a", b"bc", b"\r", b"long" * 9])), max_size=3)


def by_hand(files: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """All lines with their numbers."""
    found: list[bytes] = []
    for file in files:
        pieces = file.split(b"\n")
        found += pieces if pieces[-1] else pieces[:-1]
    return [(number, piece.rstrip(b"\r")) for number, piece in enumerate(found, 1)]


@given(pieces=FILES, ends=st.booleans(), target=st.integers(1, 40), block=st.integers(1, 50))
def test_all_lines_once(pieces: list[list[bytes]], ends: bool, target: int, block: int) -> None:
    files = [b"\n".join(each) + (b"\n" if ends and each else b"") for each in pieces]
    opened = [io.BufferedReader(io.BytesIO(file)) for file in files]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "BLOCK", block)
        patch.setattr(shards, "SMALLEST", target)
        planned = shards.plan(opened, [len(file) for file in files])
    read = [
        (line.number, line.content)
        for shard in planned
        for line in lines.read_lines(opened[shard.file], shard.start, shard.end, shard.first)
    ]
    assert read == by_hand(files)
    assert [shard.number for shard in planned] == list(range(len(planned)))
    assert sum(shard.lines for shard in planned) == len(read)


def test_a_shard_is_as_large_as_asked_for() -> None:
    file = io.BufferedReader(io.BytesIO((b"x" * 99 + b"\n") * 1000))
    planned = shards.plan([file], [100_000])
    assert {shard.end - shard.start for shard in planned[:-1]} == {16_400}
    assert (planned[0].start, planned[-1].end) == (0, 100_000)


def test_a_line_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST", 8)
    content = b"12345678\n" + b"1234567\n" + b"x" * 50 + b"\nend"
    file = io.BufferedReader(io.BytesIO(content))
    read = list(lines.read_lines(file, 0, len(content), 7))
    assert read == [(7, b"12345678"), (8, b"1234567"), (9, None), (10, b"end")]
