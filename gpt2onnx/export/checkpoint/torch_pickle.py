"""The pickle in a file of torch.save, read without running any of it.

A pickle says which functions make its objects of which arguments. Those that make tensors are known
here by name, and what stands for them only writes down what they are told; nothing is imported, and
anything else is refused. All of pickle's protocols are read. Knows nothing of files, and nothing of
GPT-2.
https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, NamedTuple

STORAGES: Mapping[str, str] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "bytes",
}
"""PyTorch's classes of storages, and the types of what is in them."""

ITEM_SIZES: Mapping[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
    "qint8": 1,
    "quint8": 1,
    "qint32": 4,
    "quint4x2": 1,
    "quint2x4": 1,
    "bytes": 1,
}

OTHER_TENSORS: Mapping[str, str] = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_meta_tensor_no_storage": "meta",
    "_rebuild_qtensor": "quantized",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_device_tensor_from_cpu_tensor": "device's own",
    "_rebuild_device_tensor_from_numpy": "device's own",
    "_rebuild_wrapper_subclass": "wrapped",
}
"""The functions of torch._utils that make tensors which aren't numbers in rows, and their kinds."""

_LEFT_OUT = (
    *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4),
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)
_LARGEST = 2**63 - 1
_MAX_DIMENSIONS = 32  # numpy's


class Storage(NamedTuple):
    """Numbers in a row: of which type, under which key, how many."""

    dtype: str
    key: str
    location: str
    numbers: int


class StoredTensor(NamedTuple):
    """What a pickle tells of a tensor that is numbers in rows, by PyTorch's names."""

    dtype: str
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class OtherTensor(NamedTuple):
    """A tensor of a kind that isn't numbers in rows."""

    kind: str


class ForeignObjectError(pickle.UnpicklingError):
    """A pickle asks for something that no tensor is made of."""


class TensorUnpickler(pickle._Unpickler):
    """Reads one pickle. `storages` are those that it has told of, by key.

    pickle's own unpickler in C would make room for as many objects as a few bytes of a pickle ask
    for; the one in Python, which this is, doesn't. Instructions for what no weights need are left
    out.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code not in b"".join(_LEFT_OUT)
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for an object of this name. Raises ForeignObjectError for unknown ones."""
        if module in ("torch", "torch.storage") and name in STORAGES:
            return _Name(STORAGES[name])
        if module == "torch._utils" and name in OTHER_TENSORS:
            return _Maker(lambda *_: OtherTensor(OTHER_TENSORS[name]))
        if (module, name) in _MAKERS:
            return _Maker(_MAKERS[module, name])
        if module == "torch" and name in _TORCH_NAMES:
            return _Name(name)
        raise ForeignObjectError(f"{module}.{name}")

    def persistent_load(self, told: Any) -> Storage:
        """A storage, of which the pickle says all but the numbers."""
        kind, dtype, key, location, numbers, *view = told
        named = isinstance(dtype, _Name) and all(type(n) is str for n in (kind, key, location))
        if not named or kind != "storage" or any(part is not None for part in view):
            raise pickle.UnpicklingError("a storage was expected, something else was found")
        _sizes([numbers])
        storage = Storage(dtype.name, key, location, numbers)
        if self.storages.setdefault(storage.key, storage) != storage:
            raise pickle.UnpicklingError(f"the storage {storage.key:.100} is told of differently")
        return storage

    def load_empty_dictionary(self) -> None:
        self.append(_Dictionary())  # type: ignore[attr-defined]

    dispatch[pickle.EMPTY_DICT[0]] = load_empty_dictionary

    def load_dictionary(self) -> None:
        members = iter(self.pop_mark())  # type: ignore[attr-defined]
        self.append(_dictionary(zip(members, members, strict=True)))  # type: ignore[attr-defined]

    dispatch[pickle.DICT[0]] = load_dictionary


@dataclass(frozen=True, slots=True)
class _Maker:
    """Stands for a function of PyTorch's. A pickle can call it, and can't change it."""

    make: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a function has no state")


@dataclass(frozen=True, slots=True)
class _Name:
    """Stands for an object of PyTorch's that is only named, such as a type."""

    name: str

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a name has no state")


class _Dictionary(dict[Any, Any]):
    """A dictionary by strings and numbers. It takes the place of an OrderedDict, too.

    Of other keys even the hash may take for ever: of a pair of pairs of pairs of one thing.
    """

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str | int | float | bytes | None):
            raise pickle.UnpicklingError(f"a name was expected, a {type(key).__name__} was found")
        super().__setitem__(key, value)

    def __setstate__(self, state: object) -> None:
        """An OrderedDict's attributes, such as a state_dict's _metadata, say nothing here."""


def _dictionary(pairs: Iterable[tuple[Any, Any]] = ()) -> _Dictionary:
    dictionary = _Dictionary()
    for key, value in pairs:
        dictionary[key] = value
    return dictionary


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *more: Any, dtype: str = ""
) -> StoredTensor | OtherTensor:
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    if storage.location == "meta":
        return OtherTensor("meta")
    _sizes([offset])
    shape, strides = _sizes(size), _sizes(stride)
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise pickle.UnpicklingError(f"{len(shape)} dimensions with {len(strides)} strides")
    return StoredTensor(dtype or storage.dtype, storage, offset, shape, strides)


def _tensor_of_type(*arguments: Any) -> StoredTensor | OtherTensor:
    """_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, …)."""
    return _tensor(*arguments[:4], dtype=arguments[6].name)


def _sizes(values: Any) -> tuple[int, ...]:
    if all(type(value) is int and 0 <= value <= _LARGEST for value in values):
        return tuple(values)
    raise pickle.UnpicklingError("sizes that are no whole numbers from 0")


def _first(tensor: Any, *_: Any) -> Any:
    """What a parameter is made of."""
    return tensor


def _nothing(*_: Any) -> None:
    """What is of no concern to a tensor's numbers."""


_MAKERS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_type,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch.serialization", "_get_layout"): _nothing,
    ("torch", "device"): _nothing,
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): _dictionary,
}
_TORCH_NAMES = frozenset(
    {
        *STORAGES.values(),
        *("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"),
        *("float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "complex32", "bits8"),
        *("per_tensor_affine", "per_channel_affine", "per_channel_affine_float_qparams"),
        *("per_tensor_symmetric", "per_channel_symmetric"),
    }
)
