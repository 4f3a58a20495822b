"""Read a checkpoint file of torch: any bytes give tensors, numbers, texts and containers of them, or the one named error.

`torch.load` runs no code of a file if it is told so. It still makes whatever the file describes: entries that are unpacked to a
thousand times their size, arrays of a length that is a number in the file, tensors whose elements share memory. So the description
is run here first, with stand-ins in the place of tensors and for the few classes that training loops store. Only a file that passes
is given to torch.
"""

from __future__ import annotations

import argparse
import io
import math
import pathlib
import pickle
import re
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch

from heal.config import ConfigError
from heal.safe_yaml import require_bounded

_LFS_POINTER = b"version https://git-lfs"
_HEAD_BYTES = 64
_OLD_PICKLES = 5  # of torch's format before zip archives: magic number, version, system, content, keys of the storages
_MOST_DIMENSIONS = 64  # of a tensor
_MOST_SHOWN = 120  # characters of an error
_MOST_BYTES_PER_BYTE = 8  # of all tensors together; several tensors may share a part of the file

# The operations of a description that `torch.load(weights_only=True)` knows; any other one is refused.
_OPERATIONS = (
    pickle.PROTO
    + pickle.STOP
    + pickle.MARK
    + pickle.GLOBAL
    + pickle.NEWOBJ
    + pickle.REDUCE
    + pickle.BUILD
    + pickle.APPEND
    + pickle.APPENDS
    + pickle.SETITEM
    + pickle.SETITEMS
    + pickle.TUPLE
    + pickle.TUPLE1
    + pickle.TUPLE2
    + pickle.TUPLE3
    + pickle.EMPTY_TUPLE
    + pickle.EMPTY_LIST
    + pickle.EMPTY_DICT
    + pickle.EMPTY_SET
    + pickle.NONE
    + pickle.NEWFALSE
    + pickle.NEWTRUE
    + pickle.BININT
    + pickle.BININT1
    + pickle.BININT2
    + pickle.LONG1
    + pickle.BINFLOAT
    + pickle.BINUNICODE
    + pickle.SHORT_BINSTRING
    + pickle.BINPERSID
    + pickle.BINGET
    + pickle.LONG_BINGET
    + pickle.BINPUT
    + pickle.LONG_BINPUT
)
_PLAIN = (str, bytes, bool, int, float, type(None))
_NUMBER_TYPES = ("f8", "f4", "i8", "i4", "b1")


def read_checkpoint(path: Path) -> Any:
    """Return the content of a checkpoint: tensors, numbers, texts and containers of them.

    Raises:
        ConfigError: the file is damaged, is no checkpoint, or holds objects that only running code can make.
        OSError: the file cannot be opened.
    """
    _require_checkpoint(path)
    try:
        _require_bounded_content(path)
        with _plain_objects():
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UnknownObjectError as error:
        raise ConfigError(
            f"{path}: not a file of weights alone: it holds an object of {error}, and making it could run code; "
            "store the state dict alone"
        ) from error
    except Exception as error:  # a damaged file ends in an error of any class
        first, *_ = str(error).splitlines() or [""]
        detail = f"{type(error).__name__}: {first[:_MOST_SHOWN]}"
        raise ConfigError(f"{path}: damaged, or no checkpoint of torch ({detail}); copy or download it again") from error


def _require_checkpoint(path: Path) -> None:
    """Raise ConfigError for a file whose first bytes and end show that it is no whole checkpoint."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise ConfigError(f"{path}: the file is empty; copy or download it again")
    if head.startswith(_LFS_POINTER):
        raise ConfigError(f"{path}: a pointer of Git LFS, not the checkpoint itself; fetch the file with `git lfs pull`")
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise ConfigError(
            f"{path}: the file is cut, its end behind {path.stat().st_size:,} bytes is missing; copy or download it again"
        )
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        raise ConfigError(f"{path}: text, not a checkpoint; it begins with {head[:40].decode()!r}")


def _require_bounded_content(path: Path) -> None:
    """Raise an error if reading the file would take far more memory than the file has, or make an object of an unknown class."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            content = _Inspector(io.BytesIO(_description(file, size_bytes)), size_bytes).load()
        else:
            file.seek(0)
            _, _, _, content, _ = [_Inspector(file, size_bytes).load() for _ in range(_OLD_PICKLES)]
    require_bounded(content, _children)


def _description(file: BinaryIO, size_bytes: int) -> bytes:
    """Return the pickle of a zip archive of torch; ValueError if its entries are larger than the file."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("expected entries as torch stores them, got compressed ones")
        if sum(entry.file_size for entry in entries) > size_bytes:
            raise ValueError(f"its entries claim more than the {size_bytes} bytes of the file")
        names = [entry.filename for entry in entries if re.fullmatch(r"[^/]+/data\.pkl", entry.filename)]
        if len(names) != 1:
            raise ValueError(f"expected one entry data.pkl, got {len(names)}")
        return archive.read(names[0])


class _UnknownObjectError(pickle.UnpicklingError):
    """A file holds an object of a class that no stand-in is for; the text names the class."""


@dataclass(frozen=True)
class _Storage:
    """Stands for the numbers of one or more tensors, each of `item_bytes`."""

    numbers: int
    item_bytes: int


class _Tensor:
    """Stands for a tensor."""


class _Options:
    """Stands for an argparse.Namespace."""


class _NumberType:
    """Stands for a type of numpy."""


class _Inspector(pickle._Unpickler):
    """Runs the description of a checkpoint with stand-ins, each of which checks what it is made of.

    It is the unpickler that Python has in Python: the one in C reserves memory by the numbers in a file.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Any]] = {code: pickle._Unpickler.dispatch[code] for code in _OPERATIONS}

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        """Read from an open file; the whole checkpoint has `size_bytes`."""
        super().__init__(file)
        self._storages = set[str]()
        self._stored_left, self._tensors_left = size_bytes, _MOST_BYTES_PER_BYTE * size_bytes

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a class or a function."""
        full = f"{_MODULES.get(module, module)}.{name}"
        if full in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            return self._tensor
        if full not in _STAND_INS:
            raise _UnknownObjectError(full[:_MOST_SHOWN])
        return _STAND_INS[full]

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the stand-in for the numbers that are stored under a name."""
        kind, dtype, name, _, numbers = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(name, str):
            raise ValueError("expected the name of a storage")
        storage = _Storage(_whole(numbers), dtype.itemsize)
        if name not in self._storages:
            self._storages.add(name)
            self._stored_left -= storage.numbers * storage.item_bytes
        if self._stored_left < 0:
            raise ValueError("it claims more numbers than fit into the file")
        return storage

    def _tensor(self, storage: _Storage, offset: int, size: Any, stride: Any, *_: Any) -> _Tensor:
        if max(len(size), len(stride)) > _MOST_DIMENSIONS:
            raise ValueError(f"expected a tensor of at most {_MOST_DIMENSIONS} dimensions")
        sizes, strides = [_whole(length) for length in size], [_whole(step) for step in stride]
        numbers = math.prod(sizes)
        end = _whole(offset) + sum((length - 1) * step for length, step in zip(sizes, strides, strict=True)) + 1
        if numbers and max(end, numbers) > storage.numbers:
            raise ValueError(f"a tensor of the shape {sizes} and the strides {strides} is not within its {storage.numbers} numbers")
        self._tensors_left -= numbers * storage.item_bytes
        if self._tensors_left < 0:
            raise ValueError("its tensors are far larger than the file")
        return _Tensor()

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set_items(self.stack[-1], [(key, value)])

    def _load_setitems(self) -> None:
        items = self.pop_mark()
        _set_items(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def _load_build(self) -> None:
        """Drop the state of an object, which nothing here depends on."""
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, _NumberType) and state not in [(3, order, None, None, None, -1, -1, 0) for order in "<|"]:
            raise ValueError("expected one of numpy's plain types")
        if not isinstance(made, (OrderedDict, _Options, _NumberType)):
            raise ValueError(f"expected no state of {type(made).__name__}")

    dispatch |= {pickle.SETITEM[0]: _load_setitem, pickle.SETITEMS[0]: _load_setitems, pickle.BUILD[0]: _load_build}


# No error below shows a value: the text of a few nested lists may be of any length.


def _whole(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError("expected a whole number from 0 on")
    return number


def _set_items(mapping: Any, pairs: Iterable[tuple[Any, Any]]) -> None:
    """Put entries into a mapping. Keys are plain, because Python overflows its stack with the hash of a deeply nested tuple."""
    if not isinstance(mapping, dict):
        raise ValueError(f"expected a mapping, got {type(mapping).__name__}")
    for key, value in pairs:
        mapping[_plain(key)] = value


def _plain(value: Any) -> Any:
    if not isinstance(value, _PLAIN):
        raise ValueError(f"expected a number or a text, got {type(value).__name__}")
    return value


def _plain_items(items: Any = ()) -> tuple[Any, ...]:
    return tuple(_plain(item) for item in items)


def _ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict((_plain(key), value) for key, value in pairs)


def _counter(counts: Any) -> Counter[Any]:
    if not isinstance(counts, dict):
        raise ValueError("expected a mapping of counts")
    return Counter(counts)


def _encoded(text: Any, encoding: Any) -> bytes:
    """Return the bytes that a text stands for; other encodings than that one may make several characters of one."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("expected a text and the encoding latin1")
    return text.encode("latin1")


def _number_type(name: Any, *_: Any) -> _NumberType:
    if name not in _NUMBER_TYPES:
        raise ValueError(f"expected one of numpy's types {', '.join(_NUMBER_TYPES)}")
    return _NumberType()


def _same(part: Any, *_: Any) -> Any:
    return part


def _nothing(*parts: Any) -> None:
    """Stand for a device, a path or a number, of which nothing is read."""


_MODULES = {"__builtin__": "builtins"}  # torch writes the names of Python 2
_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
_STAND_INS: dict[str, Any] = {
    "collections.OrderedDict": _ordered,
    "collections.Counter": _counter,
    "torch._utils._rebuild_parameter": _same,
    "torch.Size": _plain_items,
    "torch.device": _nothing,
    "builtins.set": _plain_items,
    "builtins.complex": _nothing,
    "_codecs.encode": _encoded,
    "argparse.Namespace": _Options,
    "pathlib.PosixPath": _nothing,
    "numpy.dtype": _number_type,
    **{f"numpy.{core}.multiarray.scalar": _nothing for core in ("core", "_core")},
    **{f"{module}.{name}Storage": dtype for module in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()},
    **{str(dtype): dtype for dtype in _STORAGES.values()},
}


def _children(value: Any) -> Iterator[Any]:
    """Yield the containers within a container."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    yield from (item for item in items if item and isinstance(item, (dict, list, tuple)))


def _plain_objects() -> AbstractContextManager[Any]:
    """Allow the harmless objects that training loops store beside the weights: options, paths, and numbers of NumPy."""
    if not hasattr(torch.serialization, "safe_globals"):
        return nullcontext()
    number = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in _NUMBER_TYPES]
    return torch.serialization.safe_globals([argparse.Namespace, pathlib.PosixPath, np.dtype, number, *kinds])
