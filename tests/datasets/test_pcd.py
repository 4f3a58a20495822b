"""PCD files: three encodings, OPV2V's packed intensity, and the errors of a damaged file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from heal.datasets.dataset import DatasetError
from heal.datasets.lidar import read_lidar
from heal.datasets.pcd import lzf_decompress, read_pcd, write_pcd

HEADER = (
    "VERSION 0.7\nFIELDS {fields}\nSIZE {sizes}\nTYPE {types}\nCOUNT {counts}\nWIDTH {n}\nHEIGHT 1\nPOINTS {n}\nDATA {encoding}\n"
)


def header(n: int, encoding: str, fields: str = "x y z intensity", sizes: str = "4 4 4 1", types: str = "F F F U") -> bytes:
    counts = " ".join("1" for _ in fields.split())
    return HEADER.format(fields=fields, sizes=sizes, types=types, counts=counts, n=n, encoding=encoding).encode()


def lzf_literals(data: bytes) -> bytes:
    """Return the simplest valid LZF stream: literal runs only."""
    runs = [data[i : i + 32] for i in range(0, len(data), 32)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def compressed(fields: bytes) -> bytes:
    block = lzf_literals(fields)
    return np.array([len(block), len(fields)], "<u4").tobytes() + block


XYZ = np.array([[1.5, -2.0, 0.25], [100.0, 7.0, -1.0], [0.0, -0.5, 3.0]], "<f4")
RAW = np.array([0, 255, 51], np.uint8)


def encodings() -> dict[str, bytes]:
    text = "".join(f"{x} {y} {z} {i}\n" for (x, y, z), i in zip(XYZ, RAW, strict=True))
    rows = b"".join(XYZ[k].tobytes() + RAW[k : k + 1].tobytes() for k in range(3))
    return {
        "ascii": header(3, "ascii") + text.encode(),
        "binary": header(3, "binary") + rows,
        "binary_compressed": header(3, "binary_compressed") + compressed(XYZ.T.tobytes() + RAW.tobytes()),
    }


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_every_encoding_gives_the_same_points(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "cloud.pcd"
    file.write_bytes(encodings()[encoding])
    points = read_lidar(file)
    np.testing.assert_array_equal(points[:, :3], XYZ)
    np.testing.assert_allclose(points[:, 3], [0.0, 1.0, 0.2], atol=1e-7)
    assert points.dtype == np.float32


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_a_truncated_cloud_names_file_and_cause(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "short.pcd"
    file.write_bytes(encodings()[encoding][:-4])
    with pytest.raises(DatasetError, match=r"short\.pcd: truncated"):
        read_lidar(file)


def test_fields_are_found_by_name_and_width(tmp_path: Path) -> None:
    rows = np.array([(9, 1.0, 0.5, 2.0, 3.0)], [("ring", "<u2"), ("z", "<f4"), ("time", "<f8"), ("x", "<f4"), ("y", "<f4")])
    file = tmp_path / "cloud.pcd"
    file.write_bytes(header(1, "binary", "ring z time x y", "2 4 8 4 4", "U F F F F") + rows.tobytes())
    x, ring, time = read_pcd(file, ("x", "ring", "time"))
    assert (x[0], ring[0], time[0]) == (2.0, 9, 0.5)
    with pytest.raises(DatasetError, match="no field 'intensity', the file has ring, z, time, x, y"):
        read_pcd(file, ("intensity",))


def test_a_field_with_several_values_shifts_the_next(tmp_path: Path) -> None:
    file = tmp_path / "cloud.pcd"
    text = header(2, "ascii", "normal x", "4 4", "F F").replace(b"COUNT 1 1", b"COUNT 3 1")
    file.write_bytes(text + b"1 2 3 4\n5 6 7 8\n")
    np.testing.assert_array_equal(read_pcd(file, ("x",))[0], [4.0, 8.0])


def test_missing_points_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "cloud.pcd"
    file.write_bytes(header(3, "ascii") + b"1 2 3 4\nnan nan nan 0\n5 6 7 8\n")
    np.testing.assert_array_equal(read_lidar(file)[:, 0], [1.0, 5.0])


def test_intensity_below_128_survives_the_flushing_of_denormals(tmp_path: Path) -> None:
    reds = np.array([0, 1, 64, 127, 128, 255], np.uint32)
    printed = (reds << 16).view(np.float32)
    text = "".join(f"0 0 0 {value:.10g}\n" for value in printed)
    file = tmp_path / "cloud.pcd"
    file.write_bytes(header(6, "ascii", "x y z rgb", "4 4 4 4", "F F F F") + text.encode())
    try:
        torch.set_flush_denormal(True)
        intensity = read_lidar(file)[:, 3]
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(intensity, reds.astype(np.float32) / np.float32(255))


def test_written_clouds_read_back(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    points[:, 3] = np.arange(500) % 256 / np.float32(255)
    write_pcd(tmp_path / "cloud.pcd", points)
    np.testing.assert_array_equal(read_lidar(tmp_path / "cloud.pcd"), points)


def test_an_empty_cloud_reads_back(tmp_path: Path) -> None:
    write_pcd(tmp_path / "cloud.pcd", np.zeros((0, 4), np.float32))
    assert read_lidar(tmp_path / "cloud.pcd").shape == (0, 4)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "not a PCD file"),
        (b"\x89PNG\r\n\x1a\n" * 100, "not a PCD file"),
        (header(1, "binary", "x", "3", "F"), "unknown field type F3"),
        (header(1, "zipped"), "unknown encoding 'zipped'"),
        (header(1, "ascii", "x y", "4", "F F"), "names 2 fields"),
        (header(2, "ascii") + b"1 2 3 4\n1 two 3 4\n", "not all numbers"),
        (header(1, "ascii") + b"1 2 3 4\n1 2 3 4\n", "too long: expected 1 points of 4 numbers, got 8"),
        (header(1, "ascii") + b"1 2 3 256\n", "'intensity' is declared as U of 1 bytes, but holds 256"),
        (header(1, "ascii") + b"1 2 3 0.5\n", "'intensity' is declared as U of 1 bytes, but holds 0.5"),
        (header(1, "ascii").replace(b"WIDTH 1", b"WIDTH 2") + b"1 2 3 4\n", "contradicts itself: WIDTH 2 times HEIGHT 1 is not"),
        (header(1, "ascii").replace(b"WIDTH 1", b"WIDTH -1"), "header's WIDTH is '-1', expected whole numbers"),
        (header(1, "ascii").replace(b"COUNT 1 1 1 1", b"COUNT 1 1 1 0"), "field 'intensity' has a COUNT of 0"),
        (header(1, "ascii").replace(b"WIDTH 1\n", b"").replace(b"POINTS 1\n", b""), "not a PCD file: the header has no WIDTH"),
        (header(3, "binary_compressed") + np.array([1, 9], "<u4").tobytes() + b"\x00", "3 points take 39 bytes"),
        (header(1, "binary_compressed") + np.array([3, 13], "<u4").tobytes() + b"\x20\x05\x00", "before its beginning"),
        (header(1, "binary_compressed") + np.array([2, 13], "<u4").tobytes() + b"\x00A", "LZF stream ends"),
    ],
)
def test_what_is_no_cloud_is_refused_by_name(tmp_path: Path, content: bytes, cause: str) -> None:
    file = tmp_path / "bad.pcd"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=cause):
        read_lidar(file)


def test_a_missing_cloud_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere\.pcd: no such file"):
        read_lidar(tmp_path / "nowhere.pcd")


def test_lzf_copies_repeat_and_overlap() -> None:
    # "ab", then 9 bytes from 2 back (an overlapping copy, length 7 + extra), then 3 bytes from 11 back.
    stream = bytes([1]) + b"ab" + bytes([7 << 5, 0, 1]) + bytes([1 << 5, 10])
    assert lzf_decompress(stream, 14) == b"ababababababab"[:11] + b"aba"
    assert lzf_decompress(stream, 14, needed=2)[:2] == b"ab"


CLOUD = np.concatenate([XYZ, np.array([[0.8], [0.4], [0.1]], "<f4")], axis=1)
FLOATS = header(3, "binary", sizes="4 4 4 4", types="F F F F")
SPELLINGS = {
    "types": FLOATS.replace(b"TYPE F F F F", b"TYPE f f f f"),
    "fields": FLOATS.replace(b"x y z intensity", b"X Y Z Intensity"),
    "columns": FLOATS.replace(b"VERSION 0.7\nFIELDS", b"VERSION .6\nCOLUMNS"),
    "no height": FLOATS.replace(b"HEIGHT 1\n", b""),
    "no count": FLOATS.replace(b"COUNT 1 1 1 1\n", b""),
    "no type and size": FLOATS.replace(b"TYPE F F F F\n", b"").replace(b"SIZE 4 4 4 4\n", b""),
    "no points": FLOATS.replace(b"POINTS 3\n", b""),
    "no width": FLOATS.replace(b"WIDTH 3\nHEIGHT 1\n", b""),
    "lower case": FLOATS.lower(),
    "carriage returns": FLOATS.replace(b"\n", b"\r\n"),
    "long comment": b"# made by hand " * 7000 + b"\n" + FLOATS,
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_every_legal_spelling_of_a_header_is_read(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "cloud.pcd"
    file.write_bytes(text + CLOUD.tobytes())
    np.testing.assert_array_equal(read_lidar(file), CLOUD)


def test_a_block_that_is_stored_uncompressed_is_read(tmp_path: Path) -> None:
    file, block = tmp_path / "cloud.pcd", CLOUD.T.tobytes()
    sizes = np.array([len(block), len(block)], "<u4").tobytes()
    file.write_bytes(FLOATS.replace(b"DATA binary", b"DATA binary_compressed") + sizes + block)
    np.testing.assert_array_equal(read_lidar(file), CLOUD)


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_an_empty_sweep_needs_nothing_behind_its_header(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "cloud.pcd"
    file.write_bytes(header(0, encoding))
    assert read_lidar(file).shape == (0, 4)
