"""Point clouds as one reads them first: JSON, PCD headers line by line, LZF byte by byte, ASCII points line by line."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.types import Float32

FOLDER = "cooperative-vehicle-infrastructure"


def read_dair_clouds(root: Path, split: str, index: int) -> list[Float32]:
    """Both clouds of a DAIR-V2X-C pair, the vehicle's and the roadside unit's.

    Args:
        root: holds the split lists and cooperative-vehicle-infrastructure.
        split: name of a list, "train" or "val".
        index: of the pair in it.

    Returns:
        (N, 4) float32 each: x, y, z in metres in the side's own frame, intensity in [0, 1].
    """
    folder = root / FOLDER
    pairs = {}
    for pair in json.loads((folder / "cooperative" / "data_info.json").read_text()):
        pairs[Path(pair["vehicle_pointcloud_path"]).stem] = pair
    frame_ids = [frame_id for frame_id in json.loads((root / f"{split}.json").read_text()) if frame_id in pairs]
    pair = pairs[frame_ids[index]]
    return [_read_cloud(folder / pair[f"{side}_pointcloud_path"]) for side in ("vehicle", "infrastructure")]


def read_opv2v_cloud(path: Path) -> Float32:
    """An ASCII cloud of OPV2V (N, 4) float32: x, y, z in metres, intensity in [0, 1], which is the red byte of `rgb`."""
    points, behind_header = [], False
    with path.open(encoding="ascii") as lines:
        for line in lines:
            if behind_header:
                x, y, z, rgb = (float(word) for word in line.split())
                (bits,) = struct.unpack("<I", struct.pack("<f", rgb))
                points.append((x, y, z, (bits >> 16 & 255) / 255))
            elif line.startswith("DATA"):
                behind_header = True
    return np.array(points, np.float32).reshape(-1, 4)


def _read_cloud(path: Path) -> Float32:
    """(N, 4) of a binary_compressed PCD file with x, y, z and an intensity from 0 to 255; points that are not numbers left out."""
    data = path.read_bytes()
    header, begin = _header(data)
    packed, size = struct.unpack_from("<II", data, begin)
    columns = _columns(decompress(data[begin + 8 : begin + 8 + packed], size), header)
    intensity = columns["intensity"].astype(np.float32)
    if columns["intensity"].dtype.kind == "u" or intensity.max() > 1:
        intensity = intensity / np.float32(255)
    points = np.stack([columns["x"], columns["y"], columns["z"], intensity.clip(0, 1)], axis=1).astype(np.float32)
    finite: Float32 = points[np.isfinite(points).all(axis=1)]
    return finite


def _header(data: bytes) -> tuple[dict[str, list[str]], int]:
    """The words behind every key of a PCD header, and where its points begin."""
    header: dict[str, list[str]] = {}
    begin = 0
    while "DATA" not in header:
        end = data.index(b"\n", begin)
        key, *words = data[begin:end].decode("ascii").split()
        header[key], begin = words, end + 1
    return header, begin


def _columns(block: bytes, header: dict[str, list[str]]) -> dict[str, npt.NDArray[Any]]:
    """The fields, one (N,) array each, that lie one after the other in a decompressed block."""
    count, begin, columns = int(header["POINTS"][0]), 0, {}
    for name, kind, size in zip(header["FIELDS"], header["TYPE"], header["SIZE"], strict=True):
        columns[name] = np.frombuffer(block, np.dtype(f"<{kind.lower()}{size}"), count, begin)
        begin += count * int(size)
    return columns


def decompress(data: bytes, size: int) -> bytes:
    """An LZF stream, one byte after the other, to its `size` bytes."""
    out = bytearray(size)
    position = written = 0
    while position < len(data):
        control = data[position]
        position += 1
        if control < 32:
            for _ in range(control + 1):
                out[written] = data[position]
                position += 1
                written += 1
            continue
        length = control >> 5
        if length == 7:
            length += data[position]
            position += 1
        source = written - ((control & 31) << 8) - data[position] - 1
        position += 1
        for _ in range(length + 2):
            out[written] = out[source]
            source += 1
            written += 1
    return bytes(out)
