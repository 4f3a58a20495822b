"""Point cloud files read in the plain form: LZF decompression byte by byte, headers and ASCII points line by line."""

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
    """Read both clouds of a DAIR-V2X-C pair: the vehicle's and the roadside unit's.

    Args:
        root: folder with the lists of pairs and the folder cooperative-vehicle-infrastructure.
        split: name of a list of pairs, "train" or "val".
        index: position of the pair in the list, without the entries that have no pair.

    Returns:
        Two clouds (N, 4) float32: x, y, z in metres in the LiDAR's frame, intensity in [0, 1].
    """
    folder = root / FOLDER
    pairs = {}
    for pair in json.loads((folder / "cooperative" / "data_info.json").read_text()):
        pairs[Path(pair["vehicle_pointcloud_path"]).stem] = pair
    frame_ids = [frame_id for frame_id in json.loads((root / f"{split}.json").read_text()) if frame_id in pairs]
    pair = pairs[frame_ids[index]]
    return [_read_cloud(folder / pair[f"{side}_pointcloud_path"]) for side in ("vehicle", "infrastructure")]


def read_opv2v_cloud(path: Path) -> Float32:
    """Read an ASCII cloud of OPV2V.

    Returns:
        (N, 4) float32: x, y, z in metres in the LiDAR's frame, intensity in [0, 1], which is the red byte of the file's `rgb`.
    """
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
    """Read a binary_compressed PCD file.

    Args:
        path: file with the fields x, y, z in metres and intensity, an integer up to 255 or a number in [0, 1] or [0, 255].

    Returns:
        (N, 4) float32: x, y, z in metres, intensity in [0, 1], without points that are NaN or infinite.
    """
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
    """Split a PCD header into the values of each key. The second result is the byte at which the points begin."""
    header: dict[str, list[str]] = {}
    begin = 0
    while "DATA" not in header:
        end = data.index(b"\n", begin)
        key, *words = data[begin:end].decode("ascii").split()
        header[key], begin = words, end + 1
    return header, begin


def _columns(block: bytes, header: dict[str, list[str]]) -> dict[str, npt.NDArray[Any]]:
    """Split a decompressed PCD block, in which field follows field, into one array (N,) per field."""
    count, begin, columns = int(header["POINTS"][0]), 0, {}
    for name, kind, size in zip(header["FIELDS"], header["TYPE"], header["SIZE"], strict=True):
        columns[name] = np.frombuffer(block, np.dtype(f"<{kind.lower()}{size}"), count, begin)
        begin += count * int(size)
    return columns


def decompress(data: bytes, size: int) -> bytes:
    """Decompress an LZF stream, one byte after the other, to `size` bytes."""
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
