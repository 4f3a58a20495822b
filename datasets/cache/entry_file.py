"""The file of one cache entry: plain values and arrays, with a checksum and the stamps of the files behind the entry.

    magic, version, length of the header, CRC-32 of the bytes after these 32, length of the file; little-endian, 32 bytes
    header: JSON {stamps, values, arrays: [[type, shape], ...]}, padded with blanks
    arrays, little-endian, each beginning at a multiple of 64 bytes

The file is read at once, and the arrays are views of the bytes. Memory mapping would save a seventh of a millisecond per megabyte,
but the checksum, which reads every byte, would cost as much.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.atomic_write import remove_left_over, unfinished

try:
    from isal.isal_zlib import crc32  # the same checksum in a fifth of the time
except ImportError:
    from zlib import crc32

MAGIC = b"HEALENTR"
# Raise the version when the layout changes or a reader gives other values for the same files: all entries are then written again.
VERSION = 2
ALIGNMENT = 64
_PREFIX = struct.Struct("<8sIIIQ4x")
_ARRAY_TYPE = re.compile(r"[<|][biufS][1-9]\d{0,4}")

# A file's size in bytes and time of the last change in nanoseconds.
Stamp = tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """The content of an entry.

    Attributes:
        values: numbers and text by name.
        arrays: the arrays, in the order in which the caller packs and unpacks them.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: tuple[npt.NDArray[Any], ...] = ()


def stamps_of(files: Sequence[Path]) -> list[Stamp]:
    """Return size and time of change of every file, which tell whether a file has changed; OSError if a file is missing."""
    stats = [file.stat() for file in files]
    return [(stat.st_size, stat.st_mtime_ns) for stat in stats]


def read_entry(path: Path, stamps: Sequence[Stamp]) -> Entry | None:
    """Read an entry; None if the file is missing, damaged, of another version, or has other stamps.

    The checksum tells damage, not who has written the file: whatever the header says, the answer is an entry or None.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    if len(data) < _PREFIX.size:
        return None
    magic, version, header_bytes, checksum, size = _PREFIX.unpack_from(data.data)
    if (magic, version, size) != (MAGIC, VERSION, len(data)) or crc32(data[_PREFIX.size :].data) != checksum:
        return None
    begin = _PREFIX.size + header_bytes
    try:
        header = json.loads(data[_PREFIX.size : begin].tobytes())
        if header["stamps"] != [list(stamp) for stamp in stamps]:
            return None
        return Entry(dict(header["values"]), _split(data[begin:], header["arrays"]))
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        return None


def write_entry(path: Path, stamps: Sequence[Stamp], entry: Entry) -> None:
    """Write an entry under another name and rename it, so that no reader sees a part of it while several processes write.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_over(path.parent)
    temporary = unfinished(path)
    try:
        temporary.write_bytes(_to_bytes(stamps, entry))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _to_bytes(stamps: Sequence[Stamp], entry: Entry) -> bytes:
    arrays = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for array in entry.arrays]
    described = [[array.dtype.str, array.shape] for array in arrays]
    header = json.dumps({"stamps": list(stamps), "values": dict(entry.values), "arrays": described}).encode("ascii")
    header += b" " * (_padding(_PREFIX.size + len(header)))
    body = b"".join([header, *(array.tobytes() + bytes(_padding(array.nbytes)) for array in arrays)])
    return _PREFIX.pack(MAGIC, VERSION, len(header), crc32(body), _PREFIX.size + len(body)) + body


def _split(body: npt.NDArray[np.uint8], described: Sequence[tuple[str, Sequence[int]]]) -> tuple[npt.NDArray[Any], ...]:
    """Return views of the arrays in the bytes after the header, from their types and shapes."""
    arrays: list[npt.NDArray[Any]] = []
    begin = 0
    for name, shape in described:
        if not _ARRAY_TYPE.fullmatch(name):  # numpy evaluates parts of what else may stand there
            raise ValueError(f"expected the type of an array, got {name!r}")
        dtype = np.dtype(name)
        size = math.prod(shape) * dtype.itemsize
        arrays.append(body[begin : begin + size].view(dtype).reshape(shape))
        begin += size + _padding(size)
    return tuple(arrays)


def _padding(size: int) -> int:
    """Return the number of bytes from `size` to the next multiple of ALIGNMENT."""
    return -size % ALIGNMENT
