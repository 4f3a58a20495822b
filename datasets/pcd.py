"""Read and write point clouds in PCD files (ascii, binary, binary_compressed) with numpy alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.files import errors_naming
from heal.datasets.pcd_header import PcdHeader, parse_header
from heal.types import Float32, Float64


def read_pcd(path: Path, fields: Sequence[str]) -> list[npt.NDArray[Any]]:
    """Read some fields of a point cloud.

    Args:
        path: the file.
        fields: names in lower case, such as ("x", "y", "z"); of a field with several values per point, the first value is read.

    Returns:
        One (N,) array per field in the field's own type; float64 for ascii.

    Raises:
        DatasetError: the file is missing or not a PCD file, lacks a field, or has fewer points than its header says.
    """
    with errors_naming(path):
        data = path.read_bytes()
        return decode_pcd(data, parse_header(data), fields)


def decode_pcd(data: bytes, header: PcdHeader, fields: Sequence[str]) -> list[npt.NDArray[Any]]:
    """Decode some fields of a whole PCD file, as `read_pcd` returns them; ValueError if the file is damaged."""
    columns = [header.column(name) for name in fields]
    if not header.points:
        return [np.empty(0, header.types[column]) for column in columns]
    return _DECODERS[header.encoding](data, header, columns)


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


def _read_ascii(data: bytes, header: PcdHeader, columns: list[int]) -> list[npt.NDArray[Any]]:
    width = sum(header.counts)
    numbers = _parse_numbers(data[header.data_begin :])
    if len(numbers) != header.points * width:
        damage = "truncated" if len(numbers) < header.points * width else "too long"
        raise ValueError(f"{damage}: expected {header.points} points of {width} numbers, got {len(numbers)} numbers")
    table = numbers.reshape(header.points, width)
    return [_of_type(table[:, sum(header.counts[:column])], header, column) for column in columns]


def _of_type(numbers: Float64, header: PcdHeader, column: int) -> Float64:
    """Return the numbers of a field; ValueError if the field is declared as integers and a finite number is none of them."""
    kind = header.types[column]
    if kind.kind == "f":
        return numbers
    limits = np.iinfo(kind)
    wrong = np.isfinite(numbers) & ((numbers != np.rint(numbers)) | (numbers < limits.min) | (numbers > limits.max))
    if wrong.any():
        declared = f"{kind.kind.upper()} of {kind.itemsize} bytes"
        raise ValueError(f"the field {header.fields[column]!r} is declared as {declared}, but holds {numbers[wrong][0]:g}")
    return numbers


def _parse_numbers(text: bytes) -> Float64:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # older numpy only warns of a word that is not a number
        try:
            return np.fromstring(text.decode("ascii").strip(), dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise ValueError("the points are not all numbers separated by blanks") from error


def _read_binary(data: bytes, header: PcdHeader, columns: list[int]) -> list[npt.NDArray[Any]]:
    step = sum(header.widths)
    have = len(data) - header.data_begin
    if have < header.points * step:
        raise ValueError(f"truncated: expected {header.points} points of {step} bytes, got {have} bytes")
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
    block: bytes | bytearray = data[begin : begin + packed]
    if packed != size:  # a block that compression does not make shorter is stored as it is
        needed = header.points * max((sum(header.widths[: column + 1]) for column in columns), default=0)
        block = lzf_decompress(data[begin : begin + packed], size, needed)
    return [_block_to_column(block, header, column) for column in columns]


def _block_to_column(block: bytes | bytearray, header: PcdHeader, column: int) -> npt.NDArray[Any]:
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
