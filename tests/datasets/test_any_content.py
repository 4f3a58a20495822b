"""Whatever a metadata, label, calibration or index file holds: it is read, or one error names a file; no other exception leaves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heal.datasets.dair.source import DairSource
from heal.datasets.dataset import DatasetError
from heal.datasets.opv2v.source import Opv2vSource
from heal.types import SceneSource, load_scene
from tests.datasets.dair.dair_tree import INNER
from tests.datasets.dair.dair_tree import write_tree as write_dair
from tests.datasets.opv2v.opv2v_tree import metadata, vehicle, write_frame

DEEP = "[" * 10 * sys.getrecursionlimit() + "]" * 10 * sys.getrecursionlimit()
STRANGE: list[Any] = [
    None,
    True,
    "words",
    "",
    7,
    -1,
    2**70,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    [],
    {},
    [[1]],
    [{}],
    {"a": 1},
]
STRANGE += [[1, "b", None], {"id": []}, [[[[[[[]]]]]]], {"x": {"y": {"z": 0}}}, "9" * 200]

EVERY = 10


def places(values: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the way to every value in nested mappings and lists; of a list, to its first and last entry."""
    yield at
    if isinstance(values, dict):
        for key, value in values.items():
            yield from places(value, (*at, key))
    elif isinstance(values, list):
        for index in sorted({0, len(values) - 1} - {-1}):
            yield from places(values[index], (*at, index))


def replaced(values: Any, at: tuple[Any, ...], new: Any) -> Any:
    """Return a copy with one value replaced."""
    if not at:
        return new
    copy = dict(values) if isinstance(values, dict) else list(values)
    copy[at[0]] = replaced(copy[at[0]], at[1:], new)
    return copy


def versions(values: Any) -> Iterator[str]:
    """Return JSON texts with a few strange values in every place, in turn; all of them in every place take half a minute."""
    for number, at in enumerate(places(values)):
        for new in STRANGE[number % EVERY :: EVERY]:
            yield json.dumps(replaced(values, at, new))
    yield from ("", "\x00", DEEP, "{", "\ufeff[]")


def open_and_read(source: SceneSource) -> None:
    for index in range(len(source)):
        load_scene(source, index)


def is_read_or_named(read: Callable[[], object]) -> bool:
    """Return whether reading raises nothing, or a DatasetError in one line that names a file; any other error is passed on."""
    try:
        read()
    except DatasetError as error:
        return "\n" not in str(error) and len(str(error)) < 1500 and bool(str(error.path))
    return True


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("key", ["lidar_pose", "camera0", "vehicles"])
def test_no_content_of_opv2v_metadata_ends_in_another_error(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "test" / "drive_a" / "101"
    values = metadata(vehicles={7: vehicle(9.0, 0.0)})
    write_frame(folder, "000020", values)
    values = {name: value for name, value in values.items() if name in ("lidar_pose", key)}
    for text in versions(values):
        (folder / "000020.json").write_text(text)
        assert is_read_or_named(lambda: open_and_read(Opv2vSource(tmp_path, "test", set())))


@pytest.mark.parametrize(
    "text", [DEEP, "a: &a [*a]", "lidar_pose: &a [*a]", "vehicles: &v {1: *v}", "? [1]\n: 2", "1: 2", "a: !!set {b}"]
)
def test_no_yaml_ends_in_another_error(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "test" / "drive_a" / "101"
    write_frame(folder, "000020", metadata())
    (folder / "000020.yaml").write_text(f"{text}\n" + ("" if "lidar_pose" in text else "lidar_pose: [0, 0, 0, 0, 0, 0]\n"))
    assert is_read_or_named(lambda: open_and_read(Opv2vSource(tmp_path, "test", set())))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "name",
    [
        "train.json",
        f"{INNER}/cooperative/data_info.json",
        f"{INNER}/vehicle-side/data_info.json",
        f"{INNER}/infrastructure-side/data_info.json",
        f"{INNER}/cooperative/label_world/000010.json",
        f"{INNER}/vehicle-side/label/lidar/000010.json",
        f"{INNER}/vehicle-side/calib/lidar_to_novatel/000010.json",
        f"{INNER}/infrastructure-side/calib/virtuallidar_to_world/000003.json",
    ],
)
def test_no_content_of_a_dair_file_ends_in_another_error(tmp_path: Path, name: str) -> None:
    path = write_dair(tmp_path) / name
    for text in versions(json.loads(path.read_text())):
        path.write_text(text)
        assert is_read_or_named(lambda: open_and_read(DairSource(tmp_path, "train", set())))
