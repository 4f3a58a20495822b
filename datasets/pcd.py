"""Read and write point clouds in PCD files (ascii, binary, binary_compressed) with numpy alone.

OPV2V stores the intensity in the red byte of a packed `rgb` field; read as a float, the field is tiny and often denormal.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.files import errors_naming
from heal.types import Float32, Float64

FIELD_TYPES: dict[tuple[str, int], np.dtype[Any]] = {
    **{("F", size): np.dtype(f"<f{size}") for size in (4, 8)},
    **{(kind, size): np.dtype(f"<{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)},
}
REQUIRED_KEYS = ("FIELDS", "SIZE", "TYPE", "WIDTH", "HEIGHT", "DATA")
ENCODINGS = ("ascii", "binary", "binary_compressed")
MAX_HEADER_BYTES = 8192


@dataclass(frozen=True)
class PcdHeader:
    """The header of a PCD file.

    Attributes:
        fields: names in file order.
        types: numpy type of each field.
        counts: values per point of each field, usually 1.
        points: number of points.
        encoding: one of ENCODINGS.
        data_begin: byte at which the points begin.
    """

    fields: tuple[str, ...]
    types: tuple[np.dtype[Any], ...]
    counts: tuple[int, ...]
    points: int
    encoding: str
    data_begin: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Bytes per point of each field."""
        return tuple(kind.itemsize * count for kind, count in zip(self.types, self.counts, strict=True))


def read_pcd(path: Path, fields: Sequence[str]) -> list[npt.NDArray[Any]]:
    """Read some fields of a point cloud.

    Args:
        path: the file.
        fields: names, such as ("x", "y", "z"); of a field with several values per point, the first value is read.

    Returns:
        One (N,) array per field in the field's own type; float64 for ascii.

    Raises:
        DatasetError: the file is missing or not a PCD file, lacks a field, or has fewer points than its header says.
    """
    with errors_naming(path):
        return _decode(path.read_bytes(), fields)


def read_lidar(path: Path) -> Float32:
    """Read a sweep with its intensity, without the points that the sensor marks as missing (NaN).

    The intensity is the red byte of `rgb` over 255 (OPV2V), or `intensity`, over 255 if it is stored as 0..255.

    Returns:
        (N, 4) float32: x, y, z in metres, intensity in [0, 1].

    Raises:
        DatasetError: see `read_pcd`.
    """
    with errors_naming(path):
        data = path.read_bytes()
        packed = "rgb" in parse_header(data).fields
        x, y, z, raw = _decode(data, ("x", "y", "z", "rgb" if packed else "intensity"))
    points = np.empty((len(x), 4), np.float32)
    points[:, 0], points[:, 1], points[:, 2] = x, y, z
    points[:, 3] = red_from_rgb(raw) if packed else unit_intensity(raw)
    finite = np.isfinite(points)
    return points if finite.all() else points[finite.all(axis=1)]


def write_pcd(path: Path, points: Float32) -> None:
    """Write a sweep in OPV2V's convention: binary, fields `x y z rgb`, the intensity as the red byte.

    Args:
        path: the file; its folder must exist.
        points: (N, 4) x, y, z in metres, intensity in [0, 1], which is rounded to a multiple of 1/255.
    """
    rows = np.empty(len(points), np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")]))
    rows["x"], rows["y"], rows["z"] = points[:, 0], points[:, 1], points[:, 2]
    rows["rgb"] = np.rint(np.clip(points[:, 3], 0.0, 1.0) * 255.0).astype(np.uint32) << 16
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA binary\n"
    )
    path.write_bytes(header.encode("ascii") + rows.tobytes())


def red_from_rgb(packed: npt.NDArray[Any]) -> Float32:
    """Return the red byte of packed colours as (N,) numbers in [0, 1].

    Args:
        packed: (N,) float32 or integers as stored, or float64 as printed in an ascii file.
    """
    if packed.dtype == np.float32:
        bits = packed.view(np.uint32)
    elif packed.dtype == np.float64:
        # Every float32 below 2^-125 is a multiple of 2^-149, and that multiple is its bit pattern. Computing it in float64 does
        # not depend on whether the processor flushes denormal float32 to zero.
        bits = np.rint(np.nan_to_num(packed) * 2.0**149).clip(0, 2**32 - 1).astype(np.uint32)
    else:
        bits = packed.astype(np.uint32)
    red: Float32 = ((bits >> 16) & 255).astype(np.float32) / np.float32(255.0)
    return red


def unit_intensity(raw: npt.NDArray[Any]) -> Float32:
    """Scale intensities (N,) to [0, 1]: integers, and floats of which any is above 1, are on the scale 0..255."""
    intensity = raw.astype(np.float32)
    if raw.dtype.kind in "iu" or (intensity.size and np.nanmax(intensity) > 1.0):
        intensity /= np.float32(255.0)
    return intensity.clip(0.0, 1.0)


def parse_header(data: bytes) -> PcdHeader:
    """Read the header at the beginning of a PCD file; ValueError if it is incomplete or has an unknown type or encoding."""
    values, data_begin = _header_lines(data)
    missing = [key for key in REQUIRED_KEYS if not values.get(key)]
    if missing:
        raise ValueError(f"not a PCD file: the header has no {', '.join(missing)}")
    fields = tuple(values["FIELDS"])
    counts = tuple(int(count) for count in values.get("COUNT", ["1"] * len(fields)))
    if not len(fields) == len(values["TYPE"]) == len(values["SIZE"]) == len(counts):
        raise ValueError(f"the header names {len(fields)} fields, but not as many sizes, types and counts")
    types = tuple(_field_type(kind, int(size)) for kind, size in zip(values["TYPE"], values["SIZE"], strict=True))
    points = int(values["POINTS"][0]) if "POINTS" in values else int(values["WIDTH"][0]) * int(values["HEIGHT"][0])
    encoding = values["DATA"][0].lower()
    if encoding not in ENCODINGS:
        raise ValueError(f"unknown encoding {encoding!r}, expected one of {', '.join(ENCODINGS)}")
    return PcdHeader(fields, types, counts, points, encoding, data_begin)


def _decode(data: bytes, fields: Sequence[str]) -> list[npt.NDArray[Any]]:
    """Decode some fields of a whole PCD file, as `read_pcd` returns them."""
    header = parse_header(data)
    return _DECODERS[header.encoding](data, header, [_column(header, name) for name in fields])


def _header_lines(data: bytes) -> tuple[dict[str, list[str]], int]:
    """Return the words of each header line by its key, and the byte after the header's last line, DATA."""
    values: dict[str, list[str]] = {}
    begin = 0
    while begin < min(len(data), MAX_HEADER_BYTES) and "DATA" not in values:
        end = data.find(b"\n", begin)
        if end < 0:
            break
        key, *words = data[begin:end].decode("ascii", errors="replace").split() or [""]
        values[key] = words
        begin = end + 1
    return values, begin


def _field_type(kind: str, size: int) -> np.dtype[Any]:
    found = FIELD_TYPES.get((kind, size))
    if found is None:
        raise ValueError(f"unknown field type {kind}{size}, expected F of 4 or 8 bytes, I or U of 1, 2, 4 or 8")
    return found


def _column(header: PcdHeader, name: str) -> int:
    """Return the position of a field in the header; ValueError if it is missing."""
    if name not in header.fields:
        raise ValueError(f"no field {name!r}, the file has {', '.join(header.fields)}")
    return header.fields.index(name)


def _read_ascii(data: bytes, header: PcdHeader, columns: list[int]) -> list[npt.NDArray[Any]]:
    width = sum(header.counts)
    numbers = _parse_numbers(data[header.data_begin :])
    if len(numbers) != header.points * width:
        raise ValueError(f"truncated: expected {header.points} points of {width} numbers, got {len(numbers)} numbers")
    table = numbers.reshape(header.points, width)
    return [table[:, sum(header.counts[:column])] for column in columns]


def _parse_numbers(text: bytes) -> Float64:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # older numpy only warns of a word that is not a number
        try:
            return np.fromstring(text.decode("ascii"), dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise ValueError("the points are not all numbers separated by blanks") from error


def _read_binary(data: bytes, header: PcdHeader, columns: list[int]) -> list[npt.NDArray[Any]]:
    step = sum(header.widths)
    have = len(data) - header.data_begin
    if have < header.points * step:
        raise ValueError(f"truncated: expected {header.points} points of {step} bytes, got {have} bytes")
    if not header.points:
        return [np.empty(0, header.types[column]) for column in columns]
    begins = [header.data_begin + sum(header.widths[:column]) for column in columns]
    # Strided views of the file's bytes: nothing is copied here.
    return [
        np.ndarray((header.points,), header.types[column], data, begin, (step,))
        for column, begin in zip(columns, begins, strict=True)
    ]


def _read_compressed(data: bytes, header: PcdHeader, columns: list[int]) -> list[npt.NDArray[Any]]:
    """Decode binary_compressed data: whole fields follow one another, so nothing after the last field to read is decompressed."""
    begin = header.data_begin + 8
    if len(data) < begin:
        raise ValueError("truncated: the sizes of the compressed block are missing")
    packed, size = np.frombuffer(data, "<u4", 2, header.data_begin).tolist()
    if len(data) - begin < packed:
        raise ValueError(f"truncated: expected a compressed block of {packed} bytes, got {len(data) - begin} bytes")
    if size != header.points * sum(header.widths):
        raise ValueError(f"{header.points} points take {header.points * sum(header.widths)} bytes, the block holds {size}")
    needed = header.points * max((sum(header.widths[: column + 1]) for column in columns), default=0)
    block = lzf_decompress(data[begin : begin + packed], size, needed)
    return [_block_to_column(block, header, column) for column in columns]


def _block_to_column(block: bytearray, header: PcdHeader, column: int) -> npt.NDArray[Any]:
    begin = header.points * sum(header.widths[:column])
    count = header.counts[column]
    return np.frombuffer(block, header.types[column], header.points * count, begin)[::count]


_DECODERS = {"ascii": _read_ascii, "binary": _read_binary, "binary_compressed": _read_compressed}


# LZF is decoded here and not by the package python-lzf: its C extension cannot stop after the fields that are needed.
# By control byte: the number of bytes to copy, and the part of the distance back that the control byte's low bits hold. A cloud has
# a hundred thousand control bytes, and looking up takes a sixth less time than computing.
_COUNTS = tuple((control >> 5) + 2 for control in range(256))
_DISTANCES = tuple(((control & 31) << 8) + 1 for control in range(256))


def lzf_decompress(data: bytes, size: int, needed: int | None = None) -> bytearray:
    """Decompress an LZF stream, or only its beginning.

    Args:
        data: the compressed stream.
        size: the length of the whole decompressed stream in bytes.
        needed: stop after at least this many decompressed bytes; by default decompress the whole stream.

    Raises:
        ValueError: the stream is damaged.
    """
    goal = size if needed is None else min(needed, size)
    out = bytearray()
    done = position = 0
    try:
        while done < goal:
            control = data[position]
            if control < 32:
                end = position + control + 2
                out += data[position + 1 : end]
                position = end
                done += control + 1
                continue
            count = _COUNTS[control]
            if count == 9:
                position += 1
                count += data[position]
            distance = _DISTANCES[control] + data[position + 1]
            position += 2
            begin = done - distance
            if begin < 0:
                raise ValueError("LZF stream points before its beginning")
            # A copy may overlap its own result: then the last `distance` bytes repeat.
            out += out[begin : begin + count] if count <= distance else (out[begin:] * (count // distance + 1))[:count]
            done += count
    except IndexError as error:
        raise ValueError(f"LZF stream ends after {len(out)} of {size} bytes") from error
    if len(out) != done or done > size:
        raise ValueError(f"LZF stream holds {len(out)} bytes where {size} were expected")
    return out
