"""Whole shards become the output once, wherever the merger is killed between its steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from gpt2onnx.batch import merge
from gpt2onnx.batch.merge import Merger, shard_path
from gpt2onnx.batch.records import Kind, Record, RecordFile
from gpt2onnx.batch.shards import Shard
from gpt2onnx.errors import BatchError

SHARDS = [Shard(number, 0, 0, 0, 3 * number + 1, 3) for number in range(3)]


def answered(folder: Path, shards: Sequence[Shard]) -> None:
    """Write shards, each with an answer, an error and a blank line, backwards."""
    for shard in shards:
        with RecordFile(shard_path(folder, shard)) as file:
            for kind, number in ((Kind.BLANK, 2), (Kind.ERROR, 1), (Kind.ANSWER, 0)):
                content = b"" if kind is Kind.BLANK else b"%d" % (shard.first + number)
                file.append(Record(shard.first + number, kind, content))


def finished(merger: Merger, folder: Path) -> tuple[str, str]:
    merger.finish(folder / "out", folder / "failed")
    return (folder / "out").read_text(), (folder / "failed").read_text()


@pytest.mark.parametrize(("ordered", "found"), [(True, "1\n4\n7\n"), (False, "7\n1\n4\n")])
def test_in_order_or_as_they_come(tmp_path: Path, ordered: bool, found: str) -> None:
    answered(tmp_path, SHARDS)
    with Merger(tmp_path, SHARDS, ordered) as merger:
        merger.add(SHARDS[2])
        assert merger.merged == (set() if ordered else {2})
        assert [shard.number for shard, _ in merger.missing()] == [0, 1]
        merger.add(SHARDS[0])
        merger.add(SHARDS[1])
        assert merger.is_complete
        answers, errors = finished(merger, tmp_path)
    assert answers == found
    assert sorted(errors.split()) == ["2", "5", "8"]
    assert merger.failed == 3


class KilledError(Exception):
    """In the place of a kill."""


def test_killed_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each sync, and before a merged shard is removed."""
    for step in range(12):
        folder = tmp_path / str(step)
        folder.mkdir()
        answered(folder, SHARDS)
        left = [step]

        def killing(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise KilledError

        with monkeypatch.context() as patch:
            _kill_in(patch, killing)
            with pytest.raises(KilledError):
                _merge_all(folder)
        if len((folder / "merged").read_text().splitlines()) < 3:
            with (folder / "answers").open("ab") as answers:
                answers.write(b"torn")
        with Merger(folder, SHARDS, ordered=True) as merger:
            for shard, path in merger.missing():
                assert path.exists()
                merger.add(shard)
            assert finished(merger, folder) == ("1\n4\n7\n", "2\n5\n8\n")
            assert merger.failed == 3
        assert not list(folder.glob("shard-*"))


def _merge_all(folder: Path) -> None:
    with Merger(folder, SHARDS, ordered=True) as merger:
        for shard in SHARDS:
            merger.add(shard)


def _kill_in(patch: pytest.MonkeyPatch, killing: object) -> None:
    """Four steps a shard: answers, errors, the log, the shard's own end."""
    sync, unlink = merge._sync, Path.unlink

    def killed_sync(file: object) -> None:
        killing()  # type: ignore
        sync(file)  # type: ignore

    def killed_unlink(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("shard-") and not missing_ok:
            killing()  # type: ignore
        unlink(path, missing_ok)

    patch.setattr(merge, "_sync", killed_sync)
    patch.setattr(Path, "unlink", killed_unlink)


def test_finishing_again(tmp_path: Path) -> None:
    """Where it was killed between the last rename and the end of its folder."""
    answered(tmp_path, SHARDS)
    _merge_all(tmp_path)
    with Merger(tmp_path, SHARDS, ordered=True) as merger:
        before = finished(merger, tmp_path)
    with Merger(tmp_path, SHARDS, ordered=True) as merger:
        assert merger.is_complete
        assert finished(merger, tmp_path) == before


def test_records_that_are_lost(tmp_path: Path) -> None:
    answered(tmp_path, SHARDS)
    short = SHARDS[0]._replace(lines=4)
    with (
        Merger(tmp_path, [short], ordered=False) as merger,
        pytest.raises(BatchError, match="3 records of 4 lines"),
    ):
        merger.add(short)
