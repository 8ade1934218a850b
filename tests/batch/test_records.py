"""Records outlive whatever kills their writer: a torn one is cut off, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt2onnx.batch.records import Kind, Record, RecordFile, decode, encode, records

THREE = [
    Record(5, Kind.ANSWER, b'{"text": "a b"}'),
    Record(6, Kind.BLANK),
    Record(7, Kind.ERROR, b"{}"),
]


def test_a_line_by_hand() -> None:
    """Its checksum is zlib's CRC-32 of "7 e {}"."""
    assert encode(THREE[2]) == b"bfb655df 7 e {}\n"
    assert decode(b"bfb655df 7 e {}\n") == THREE[2]


@pytest.mark.parametrize(
    "damaged", [b"bfb655df 7 e {}", b"bfb655df 8 e {}\n", b"\0\0\0\n", b"\n", b""]
)
def test_what_is_no_record(damaged: bytes) -> None:
    assert decode(damaged) is None


def test_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    written = [encode(each) for each in THREE]
    whole = b"".join(written)
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        there = sum(size >= len(b"".join(written[: n + 1])) for n in range(3))
        with RecordFile(path) as file:
            assert file.done == {each.number for each in THREE[:there]}
            for each in THREE[there:]:
                file.append(each)
            file.sync()
        assert path.read_bytes() == whole
    assert list(records(path)) == THREE


def test_what_a_crash_of_the_machine_leaves(tmp_path: Path) -> None:
    """Blocks of zeros where the disk hadn't been told yet; what is behind them is done again."""
    path = tmp_path / "shard"
    path.write_bytes(encode(THREE[0]) + b"\0" * 30 + b"\n" + encode(THREE[2]))
    with RecordFile(path) as file:
        assert file.done == {5}
    assert path.read_bytes() == encode(THREE[0])
