"""A file of torch.save: a pickle that describes tensors, and where their bytes are.

A zip archive of a pickle and of each storage's bytes or, from PyTorch before 1.6, five pickles and
the bytes of one storage after another. None of the pickled code is run. Knows nothing of GPT-2.
https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpt2onnx.errors import WeightsError
from gpt2onnx.export.checkpoint.torch_pickle import ITEM_SIZES, ForeignObjectError, TensorUnpickler
from gpt2onnx.files import open_regular

# A thousand tensors take 100 KB of a pickle, or of an archive's directory; parsed, a hundred times.
MAX_PICKLE = MAX_DIRECTORY = 5_000_000
ZIP = b"PK\x03\x04"
LOCAL_HEADER = struct.Struct("<26xHH")  # ends with the lengths of the name and of what follows it
MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True)
class Content:
    """What was pickled, by which protocol, and where in the file each storage's bytes begin."""

    pickled: Any
    protocol: int
    places: Mapping[str, int]


def read_content(path: Path) -> Content:
    """Read the pickle, and find what it tells of. Raises WeightsError."""
    with open_regular(path, WeightsError) as file:
        size = os.fstat(file.fileno()).st_size
        zipped = file.read(len(ZIP)) == ZIP
        file.seek(0)
        try:
            return _read_zip(file, size) if zipped else _read_legacy(file, size)
        except ForeignObjectError as error:
            raise WeightsError(
                f"{path}: can't be loaded: expected tensors alone, found {error!s:.200}, which"
                " is never run; load the file where it is trusted and save model.state_dict()",
                path=path,
            ) from error
        except Exception as error:  # a broken file makes zipfile and the unpickler raise anything
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise WeightsError(
                f"{path}: expected a whole file of PyTorch weights, found {size} bytes that can't"
                f" be loaded ({reason:.200}); get the file again",
                path=path,
            ) from error


def _read_zip(file: BinaryIO, size: int) -> Content:
    with zipfile.ZipFile(cast(BinaryIO, _Bounded(file))) as archive:
        records = _records(archive)
        pickled = records["data.pkl"]
        if pickled.file_size > MAX_PICKLE:
            raise ValueError(f"a pickle of {pickled.file_size} bytes")
        if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
            raise ValueError("numbers in big-endian order")
        told = archive.read(pickled)
    unpickler = TensorUnpickler(io.BytesIO(told))
    content, places = unpickler.load(), {}
    for storage in unpickler.storages.values():
        if storage.location == "meta":
            continue
        record = records[f"data/{storage.key}"]
        if record.file_size != storage.numbers * ITEM_SIZES[storage.dtype]:
            raise ValueError(f"{storage.numbers} numbers in {record.file_size} bytes")
        places[storage.key] = _place(file, record, size)
    return Content(content, _protocol(told), places)


class _Bounded:
    """A file of which no more is read at once than an archive's directory may take."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._file = file

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(MAX_DIRECTORY + 1 if size < 0 else min(size, MAX_DIRECTORY + 1))
        if len(content) > MAX_DIRECTORY:
            raise ValueError(f"a directory of more than {MAX_DIRECTORY} bytes")
        return content


def _records(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """What lies in the archive's one folder, by name."""
    records: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.partition("/")[2]
        if name in records:
            raise ValueError(f"{name:.100} comes twice")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"{name:.100} is compressed")
        records[name] = info
    return records


def _place(file: BinaryIO, record: zipfile.ZipInfo, size: int) -> int:
    """Where a record's bytes begin. Raises ValueError where they aren't all there."""
    file.seek(record.header_offset)
    name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    begin: int = record.header_offset + LOCAL_HEADER.size + name + extra
    if begin + record.file_size > size:
        raise ValueError(f"{record.filename:.100} ends beyond the file")
    return begin


def _read_legacy(file: BinaryIO, size: int) -> Content:
    stream = io.BytesIO(file.read(MAX_PICKLE))
    if TensorUnpickler(stream).load() != MAGIC:
        raise ValueError("not PyTorch's format")
    TensorUnpickler(stream).load()  # the format's version
    if not TensorUnpickler(stream).load()["little_endian"]:
        raise ValueError("numbers in big-endian order")
    protocol = _protocol(stream.getbuffer()[stream.tell() :])
    unpickler = TensorUnpickler(stream)
    content = unpickler.load()
    keys = TensorUnpickler(stream).load()
    places, at = {}, stream.tell()
    for key in keys:
        storage = unpickler.storages[key]
        file.seek(at)
        count = int.from_bytes(file.read(8), "little")
        places[key] = at + 8
        at += 8 + count * ITEM_SIZES[storage.dtype]
        if count != storage.numbers or at > size:
            raise ValueError(f"{storage.numbers} numbers in {count}, up to byte {at}")
    return Content(content, protocol, places)


def _protocol(pickled: bytes | memoryview) -> int:
    """The protocol that a pickle says it is in; 0 where it says none."""
    return int(pickled[1]) if pickled[0] == pickle.PROTO[0] else 0
