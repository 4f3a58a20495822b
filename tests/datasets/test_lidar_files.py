"""The sweeps of a data set: one scale of intensities for all of them, no point lost for its intensity, .pcd and .bin files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from heal.datasets.dair.source import DairSource
from heal.datasets.dataset import Dataset, DatasetError
from heal.datasets.open import open_dataset
from heal.types import Float32
from tests.datasets.dair import dair_tree
from tests.datasets.opv2v.opv2v_tree import metadata, write_frame

XYZ = np.array([[12.5, 2.0, -1.0], [4.25, -5.0, -1.5], [-7.5, 8.0, -1.25], [20.0, 0.5, -0.75]], "<f4")
NAN = float("nan")


def pcd(*extra: tuple[str, str, Sequence[float]], xyz: npt.NDArray[Any] = XYZ, encoding: str = "binary") -> bytes:
    """Return a PCD file of x, y, z and fields, each given by its name, its type such as "U 2", and its values."""
    names, types, columns = zip(("x", "F 4", xyz[:, 0]), ("y", "F 4", xyz[:, 1]), ("z", "F 4", xyz[:, 2]), *extra, strict=True)
    rows = np.empty(len(xyz), [(name, f"<{kind[0].lower()}{kind[2]}") for name, kind in zip(names, types, strict=True)])
    for name, values in zip(names, columns, strict=True):
        rows[name] = values
    sizes, letters = (" ".join(kind[place] for kind in types) for place in (2, 0))
    text = (
        f"VERSION 0.7\nFIELDS {' '.join(names)}\nSIZE {sizes}\nTYPE {letters}\n"
        f"WIDTH {len(xyz)}\nHEIGHT 1\nPOINTS {len(xyz)}\nDATA {encoding}\n"
    )
    body = rows.tobytes() if encoding == "binary" else "".join(" ".join(map(str, row)) + "\n" for row in rows.tolist()).encode()
    return text.encode() + body


def intensity(kind: str, *values: float, encoding: str = "binary") -> bytes:
    return pcd(("intensity", kind, values), encoding=encoding)


def colour(kind: str, *values: float, name: str = "rgb", encoding: str = "binary") -> bytes:
    return pcd((name, kind, values), encoding=encoding)


def opened(root: Path, *clouds: bytes, **options: Any) -> Dataset:
    """Open a data set in OPV2V's layout: one agent, and a frame for every cloud."""
    for number, cloud in enumerate(clouds):
        folder = root / "test" / "drive_a" / "101"
        write_frame(folder, f"{number:06d}", metadata())
        (folder / f"{number:06d}.pcd").write_bytes(cloud)
    return open_dataset(root, "test", **options)


def points(source: Dataset, index: int = 0) -> Float32:
    lidar = source.agent_frame(index, "101").lidar
    assert lidar is not None
    return lidar.points


@pytest.mark.parametrize("top", [100, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("kind", ["U 2", "U 4", "I 4", "F 4", "F 8"])
@pytest.mark.parametrize("encoding", ["binary", "ascii"])
def test_intensities_on_every_common_scale_come_out_alike(tmp_path: Path, top: int, kind: str, encoding: str) -> None:
    raw = [top, round(top * 0.5), round(top * 0.1), 0]
    source = opened(tmp_path, intensity(kind, *raw, encoding=encoding))
    np.testing.assert_allclose(points(source)[:, 3], np.array(raw) / top, atol=1e-6)
    assert f"read on the scale 0 to {top}" in str(source.summary)


def test_single_bytes_are_on_the_scale_of_their_type(tmp_path: Path) -> None:
    np.testing.assert_allclose(points(opened(tmp_path, intensity("U 1", 100, 50, 10, 0)))[:, 3], np.array([100, 50, 10, 0]) / 255)


def test_floats_and_integers_of_one_data_set_have_a_scale_each(tmp_path: Path) -> None:
    source = opened(tmp_path, intensity("U 2", 65535, 32768, 6554, 0), intensity("F 4", 0.8, 0.4, 0.2, 0.1))
    np.testing.assert_allclose(points(source, 0)[:, 3], [1.0, 0.5, 0.1, 0.0], atol=1e-4)
    np.testing.assert_allclose(points(source, 1)[:, 3], [0.8, 0.4, 0.2, 0.1])


@pytest.mark.parametrize("odd", [1.02, 3.0, 200.0, float("inf")])
def test_one_odd_point_leaves_the_other_points_as_they_are(tmp_path: Path, odd: float) -> None:
    source = opened(tmp_path, intensity("F 4", 0.8, 0.4, 0.2, 0.1), intensity("F 4", odd, 0.4, 0.2, 0.1))
    np.testing.assert_allclose(points(source, 0)[:, 3], [0.8, 0.4, 0.2, 0.1])
    np.testing.assert_allclose(points(source, 1)[:, 3], [1.0, 0.4, 0.2, 0.1])
    assert "read on the scale 0 to 1" in str(source.summary)
    assert "intensities beyond the scale read as its end: 1" in str(source.summary)


def test_a_dark_sweep_is_read_on_the_scale_of_its_data_set(tmp_path: Path) -> None:
    source = opened(tmp_path, intensity("F 4", 1, 1, 0, 0), intensity("F 4", 255, 120, 40, 3))
    np.testing.assert_allclose(points(source, 0)[:, 3], [1 / 255, 1 / 255, 0, 0])
    np.testing.assert_allclose(points(source, 1)[:, 3], np.array([255, 120, 40, 3]) / 255)


def test_the_scale_is_that_of_all_splits(tmp_path: Path) -> None:
    opened(tmp_path, intensity("F 4", 255, 120, 40, 3))
    (tmp_path / "test").rename(tmp_path / "train")
    np.testing.assert_allclose(points(opened(tmp_path, intensity("F 4", 1, 1, 0, 0)))[:, 3], [1 / 255, 1 / 255, 0, 0])


def test_a_setting_names_the_scale(tmp_path: Path) -> None:
    source = opened(tmp_path, intensity("F 4", 100, 50, 10, 0), intensity_scale=200.0)
    np.testing.assert_allclose(points(source)[:, 3], [0.5, 0.25, 0.05, 0.0])
    assert "read on the scale 0 to 200, as asked for" in str(source.summary)
    with pytest.raises(ValueError, match="intensity_scale: expected a positive number"):
        opened(tmp_path, intensity_scale=0.0)


def test_an_unknown_scale_is_refused_with_file_and_range(tmp_path: Path) -> None:
    source = opened(tmp_path, intensity("F 4", -60.0, -40.0, -20.0, -3.0))
    with pytest.raises(DatasetError, match=r"000000\.pcd: the scale of the intensities cannot be known; found -60 to -3; give"):
        points(source)
    assert "on no common scale" in str(source.summary)


def test_a_sweep_on_another_scale_is_refused_with_file_and_range(tmp_path: Path) -> None:
    usual = [intensity("F 4", 0.8, 0.4, 0.2, 0.1)] * 3
    source = opened(tmp_path, *usual, intensity("F 4", 255, 128, 25, 0))
    with pytest.raises(DatasetError, match=r"000003\.pcd: 3 of 4 intensities lie beyond .* scale 0 to 1; found 0 to 255; give"):
        points(source, 3)


@pytest.mark.parametrize("encoding", ["binary", "ascii"])
@pytest.mark.parametrize("name", ["rgb", "rgba", "RGB"])
@pytest.mark.parametrize("alpha", [0, 0x7F, 0xFF])
@pytest.mark.parametrize("kind", ["U 4", "I 4", "F 4"])
def test_a_packed_colour_follows_its_type(tmp_path: Path, encoding: str, name: str, alpha: int, kind: str) -> None:
    bits = np.array([100, 64, 25, 0], np.uint32) << 16 | np.uint32(alpha << 24)
    stored = bits.view({"U": "<u4", "I": "<i4", "F": "<f4"}[kind[0]]).tolist()
    source = opened(tmp_path, colour(kind, *stored, name=name, encoding=encoding))
    np.testing.assert_allclose(points(source)[:, 3], np.array([100, 64, 25, 0]) / 255, atol=1e-7)


@pytest.mark.parametrize("other", ["rgb", "rgba", "reflectivity"])
@pytest.mark.parametrize("first", [True, False])
def test_the_intensity_wins_over_other_fields(tmp_path: Path, other: str, first: bool) -> None:
    fields = [("intensity", "F 4", (0.8, 0.4, 0.2, 0.1)), (other, "U 4", (0, 0, 0, 0))]
    source = opened(tmp_path, pcd(*(fields if first else fields[::-1])))
    np.testing.assert_allclose(points(source)[:, 3], [0.8, 0.4, 0.2, 0.1])
    assert f"read from the field intensity, not from {other}" in str(source.summary)


@pytest.mark.parametrize("values", [(NAN,) * 4, (0.8, NAN, 0.2, 0.1)])
@pytest.mark.parametrize("encoding", ["binary", "ascii"])
def test_no_point_is_lost_for_its_intensity(tmp_path: Path, values: tuple[float, ...], encoding: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = opened(tmp_path, intensity("F 4", *values, encoding=encoding))
        read = points(source)
    np.testing.assert_array_equal(read[:, :3], XYZ)
    np.testing.assert_allclose(read[:, 3], np.nan_to_num(values))
    assert "intensities that are no numbers read as 0" in str(source.summary)


def test_points_without_a_place_go(tmp_path: Path) -> None:
    xyz = XYZ.copy()
    xyz[0, 0], xyz[2, 2] = NAN, np.inf
    source = opened(tmp_path, pcd(("intensity", "F 4", (0.8, 0.4, 0.2, 0.1)), xyz=xyz))
    np.testing.assert_allclose(points(source)[:, 3], [0.4, 0.1])


def test_sweeps_without_intensity_are_read_and_counted(tmp_path: Path) -> None:
    source = opened(tmp_path, pcd())
    np.testing.assert_array_equal(points(source), np.c_[XYZ, np.zeros(4)])
    assert "sweeps without intensity read as 0: 1 in 1 of the sweeps" in str(source.summary)


def test_what_the_sample_did_not_show_is_said_when_it_is_read(tmp_path: Path) -> None:
    source = opened(tmp_path, *[intensity("F 4", 0.8, 0.4, 0.2, 0.1)] * 40)
    (tmp_path / "test" / "drive_a" / "101" / "000039.pcd").write_bytes(intensity("F 4", NAN, 0.4, 0.2, 0.1))
    with pytest.warns(UserWarning, match=r"no numbers read as 0.*000039\.pcd"):
        assert len(points(source, 39)) == 4


def test_a_cache_follows_the_scale(tmp_path: Path) -> None:
    source = opened(tmp_path / "data", intensity("F 4", 1, 1, 0, 0), cache=tmp_path / "cache")
    np.testing.assert_allclose(points(source)[:, 3], [1, 1, 0, 0])
    (tmp_path / "data" / "test" / "drive_a" / "101" / "000000_16.pcd").write_bytes(intensity("F 4", 255, 120, 40, 3))
    source = open_dataset(tmp_path / "data", "test", cache=tmp_path / "cache")
    np.testing.assert_allclose(points(source)[:, 3], [1 / 255, 1 / 255, 0, 0])


BARE = np.c_[XYZ, [[0.8], [0.4], [0.2], [0.1]]].astype("<f4")


@pytest.mark.parametrize("ending", [".bin", ".BIN", ".PCD"])
def test_an_opv2v_cloud_is_found_with_another_ending(tmp_path: Path, ending: str) -> None:
    cloud = intensity("F 4", 0.8, 0.4, 0.2, 0.1) if ending == ".PCD" else BARE.tobytes()
    opened(tmp_path, b"")
    path = tmp_path / "test" / "drive_a" / "101" / "000000.pcd"
    path.write_bytes(cloud)
    path.rename(path.with_suffix(ending))
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        np.testing.assert_array_equal(points(open_dataset(tmp_path, "test", cache=cache)), BARE)


def test_a_dair_cloud_is_found_with_another_ending(tmp_path: Path) -> None:
    path = dair_tree.write_tree(tmp_path) / dair_tree.INNER / "vehicle-side" / "velodyne" / "000010.pcd"
    path.unlink()
    path.with_suffix(".bin").write_bytes(BARE.tobytes())
    lidar = DairSource(tmp_path, "train").agent_frame(0, "vehicle").lidar
    assert lidar is not None
    np.testing.assert_array_equal(lidar.points, BARE)


def test_the_content_of_a_file_goes_before_its_name(tmp_path: Path) -> None:
    opened(tmp_path, b"")
    path = tmp_path / "test" / "drive_a" / "101" / "000000.pcd"
    path.unlink()
    path.with_suffix(".bin").write_bytes(intensity("F 4", 0.8, 0.4, 0.2, 0.1))
    np.testing.assert_array_equal(points(open_dataset(tmp_path, "test")), BARE)


def test_bare_numbers_on_bytes_scale_are_scaled(tmp_path: Path) -> None:
    opened(tmp_path, b"")
    path = tmp_path / "test" / "drive_a" / "101" / "000000.pcd"
    path.unlink()
    path.with_suffix(".bin").write_bytes(np.c_[XYZ, [255, 51, 5, 0]].astype("<f4").tobytes())
    np.testing.assert_allclose(points(open_dataset(tmp_path, "test"))[:, 3], np.array([255, 51, 5, 0]) / 255, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("000000.bin", BARE.tobytes()[:-4], "000000.bin: expected points of 16 bytes each .*, got 60 bytes"),
        ("000000.bin", b"", "000000.bin: expected points of 16 bytes each .*, got 0 bytes"),
        ("000000.ply", b"ply", "000000.pcd: no such file; 000000.ply is there"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, cause: str) -> None:
    opened(tmp_path, b"")
    folder = tmp_path / "test" / "drive_a" / "101"
    (folder / "000000.pcd").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(DatasetError, match=cause):
        points(open_dataset(tmp_path, "test"))


def test_the_sides_of_dair_have_a_scale_each(tmp_path: Path) -> None:
    inner = dair_tree.write_tree(tmp_path) / dair_tree.INNER
    for side, values in (("vehicle-side", (200, 100, 20, 0)), ("infrastructure-side", (0.8, 0.4, 0.2, 0.1))):
        for entry in json.loads((inner / side / "data_info.json").read_text()):
            (inner / side / entry["pointcloud_path"]).write_bytes(intensity("F 4", *values))
    source = DairSource(tmp_path, "train")
    frames = [source.agent_frame(0, agent_id).lidar for agent_id in ("vehicle", "roadside")]
    assert frames[0] is not None and frames[1] is not None
    np.testing.assert_allclose(frames[0].points[:, 3], np.array([200, 100, 20, 0]) / 255)
    np.testing.assert_allclose(frames[1].points[:, 3], [0.8, 0.4, 0.2, 0.1])
    assert "vehicle: intensities stored as floats are read on the scale 0 to 255" in str(source.summary)
