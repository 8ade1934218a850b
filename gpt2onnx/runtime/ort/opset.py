"""The version of an operator set that an ONNX model asks for, read from its file without onnx.

Knows protobuf's encoding as far as it takes to walk over ModelProto's own fields, and a few of
onnx.proto's field numbers; what the graph holds is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpt2onnx.errors import CorruptModelError
from gpt2onnx.files import read_bytes, unusable

OPSET_IMPORT = 8  # of ModelProto, several
DOMAIN, VERSION = 1, 2  # of OperatorSetIdProto
NUMBER, BYTES = 0, 2  # wire types: a ModelProto has no others
LONGEST = 10  # bytes of a number: it has 64 bits


def opset_version(model: Path, domain: str) -> int | None:
    """The version of a domain's operators that a model asks for; None where it asks for none of it.

    Raises CorruptModelError for what is no ONNX model.
    """
    content = memoryview(read_bytes(model, CorruptModelError))
    versions: dict[object, object] = {}
    try:
        for number, value in _fields(content):
            if number == OPSET_IMPORT and isinstance(value, memoryview):
                opset = dict(_fields(value))
                name = opset.get(DOMAIN, b"")
                if isinstance(name, int):
                    raise TypeError("a domain is a number")
                versions[bytes(name)] = opset.get(VERSION, 0)
    except (IndexError, TypeError, ValueError) as error:
        raise unusable(
            CorruptModelError, model, "expected an ONNX model; fetch or export it again"
        ) from error
    version = versions.get(domain.encode())
    return version if isinstance(version, int) else None


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """A message's fields: number and value. Raises IndexError, ValueError where it is none."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        value, place = _varint(message, place)
        if wire == NUMBER:
            yield number, value
        elif wire == BYTES and place + value <= len(message):
            yield number, message[place : place + value]
            place += value
        else:
            raise ValueError(f"field {number} has wire type {wire}")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number, seven bits a byte, the lowest first; and the place behind it."""
    value = 0
    for shift in range(0, 7 * LONGEST, 7):
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError(f"a number has more than {LONGEST} bytes")
