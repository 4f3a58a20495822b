"""Random damage to clouds, their headers and metadata: a reader returns sound values, or raises one error that names the file."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heal.datasets.dataset import DatasetError
from heal.datasets.files import read_json
from heal.datasets.lidar import read_lidar
from heal.datasets.opv2v.metadata import read_metadata
from tests.datasets.opv2v.opv2v_tree import metadata, vehicle
from tests.datasets.test_pcd import encodings

CLOUDS = encodings()
METADATA = yaml.safe_dump(metadata(vehicles={7: vehicle(9.0, 0.0), 8: vehicle(-4.0, 2.0, 30.0)})).encode()
# Replaced, inserted and deleted bytes, at relative places.
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.sampled_from("rid"), st.binary(min_size=1, max_size=3)), max_size=8)
NUMBER = st.one_of(st.integers(-2, 9).map(str), st.integers(0, 2**70).map(str), st.sampled_from(["", "nan", "1.5", "1e9", "0x4"]))
FIELD = st.sampled_from(["x", "y", "z", "intensity", "rgb", "_", "X", "i"])
_numbers = itertools.count()

pytestmark = pytest.mark.filterwarnings("ignore")
FUZZED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def damaged(data: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    for place, kind, new in changes:
        at = int(place * len(data))
        data = data[:at] + (b"" if kind == "d" else new) + data[at + (0 if kind == "i" else len(new)) :]
    return data


def read_or_named(read: Callable[[Path], Any], folder: Path, name: str, data: bytes) -> Any:
    """Return what is read from a new file; None after the one error that a reader may raise."""
    path = folder / name.format(next(_numbers))
    path.write_bytes(data)
    try:
        return read(path)
    except DatasetError as error:
        assert "\n" not in str(error) and len(str(error)) < 1500 and error.path.name == path.name
        return None
    finally:
        path.unlink()


def check_cloud(folder: Path, data: bytes) -> None:
    points = read_or_named(read_lidar, folder, "{}.pcd", data)
    if points is not None:
        assert points.dtype == np.float32 and points.ndim == 2 and points.shape[1] == 4
        assert np.isfinite(points).all() and ((points[:, 3] >= 0) & (points[:, 3] <= 1)).all()


@given(st.sampled_from(sorted(CLOUDS)), CHANGES)
@FUZZED
def test_damaged_clouds_are_read_or_named(tmp_path: Path, encoding: str, changes: list[tuple[float, str, bytes]]) -> None:
    check_cloud(tmp_path, damaged(CLOUDS[encoding], changes))


@given(st.lists(FIELD, max_size=5), st.data())
@FUZZED
def test_any_header_is_read_or_named(tmp_path: Path, fields: list[str], data: st.DataObject) -> None:
    def drawn(words: st.SearchStrategy[str]) -> str:
        return " ".join(data.draw(st.lists(words, min_size=len(fields), max_size=len(fields))))

    lines = {
        "VERSION": "0.7",
        "FIELDS": " ".join(fields),
        "SIZE": drawn(st.sampled_from(["1", "2", "4", "8", "3", "99999999999"])),
        "TYPE": drawn(st.sampled_from(["F", "U", "I", "f", "Q"])),
        "COUNT": drawn(st.sampled_from(["1", "1", "1", "0", "3", "4611686018427387904"])),
        "WIDTH": data.draw(NUMBER),
        "HEIGHT": data.draw(st.sampled_from(["1", "0", "2"])),
        "POINTS": data.draw(NUMBER),
    }
    left_out = data.draw(st.sets(st.sampled_from(sorted(lines)), max_size=4))
    text = "".join(f"{key} {words}\n" for key, words in lines.items() if key not in left_out)
    encoding = data.draw(st.sampled_from(["ascii", "binary", "binary_compressed"]))
    check_cloud(tmp_path, f"{text}DATA {encoding}\n".encode() + data.draw(st.binary(max_size=200)))


@given(CHANGES)
@FUZZED
def test_damaged_metadata_are_read_or_named(tmp_path: Path, changes: list[tuple[float, str, bytes]]) -> None:
    found = read_or_named(lambda path: read_metadata(path.with_suffix("")), tmp_path, "{}.yaml", damaged(METADATA, changes))
    if found is not None:
        assert np.isfinite(found.world_SE3_lidar).all() and found.objects.world_corners.shape == (len(found.objects), 8, 3)
        assert np.isfinite(found.objects.world_corners).all()


@given(st.binary(max_size=300))
@FUZZED
def test_random_bytes_are_read_or_named(tmp_path: Path, data: bytes) -> None:
    check_cloud(tmp_path, data)
    read_or_named(read_lidar, tmp_path, "{}.bin", data)
    read_or_named(lambda path: read_metadata(path.with_suffix("")), tmp_path, "{}.yaml", data)
    read_or_named(read_json, tmp_path, "{}.json", data)
