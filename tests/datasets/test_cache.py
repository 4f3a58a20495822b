"""The cache of decoded data: its scenes equal the data set's to the last bit, also after files change or are damaged."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.collab_model import CollabModel
from heal.datasets.cache import entry_file
from heal.datasets.cache.entry_file import Entry, read_entry, write_entry
from heal.datasets.cache.source import CachedSource
from heal.datasets.dataset import Dataset, DatasetError, UnknownAgentError
from heal.datasets.open import open_dataset
from heal.datasets.pcd import write_pcd
from heal.grid import BevGrid
from heal.training.batches import TrainingSteps
from heal.training.config import ScheduleConfig, TrainingConfig
from heal.types import Scene, SensorChoice, load_scene
from tests.datasets.dair.dair_tree import INNER, write_json
from tests.datasets.dair.dair_tree import write_tree as write_dair
from tests.datasets.opv2v.opv2v_tree import write_tree as write_opv2v

VEHICLE_CLOUD = Path(INNER) / "vehicle-side" / "velodyne" / "000011.pcd"


def write_both(root: Path) -> list[tuple[Path, str]]:
    """Write a folder tree in each layout; return its root and a split."""
    return [(write_dair(root / "dair"), "val"), (write_opv2v(root / "opv2v"), "test")]


@pytest.fixture
def dair(tmp_path: Path) -> Path:
    return write_dair(tmp_path / "dair")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def bits(scene: Scene) -> list[object]:
    """Return all values of a scene, with arrays as bytes with type and shape."""
    arrays = [scene.outline.world_SE3_ego, scene.objects.ids, scene.objects.world_corners]
    plain: list[object] = [scene.outline.scene_id, scene.outline.timestamp_ns, scene.outline.ego_id, scene.outline.agent_ids]
    for frame in scene.frames:
        assert frame.lidar is not None
        plain += [frame.agent_id, frame.kind, frame.timestamp_ns, frame.lidar.beams, frame.cameras]
        arrays += [frame.world_SE3_agent, frame.world_SE3_agent_measured, frame.objects.ids, frame.objects.world_corners]
        arrays.append(frame.lidar.points)
    return plain + [(array.dtype.str, array.shape, array.tobytes()) for array in arrays]


def scenes(source: Dataset) -> list[list[object]]:
    return [bits(load_scene(source, index)) for index in range(len(source))]


def forbid_reading(monkeypatch: pytest.MonkeyPatch, source: Dataset) -> None:
    """Make every reading from the data set behind the cache fail."""

    def fail(*_: object) -> None:
        raise AssertionError("read from the data set although it is in the cache")

    assert isinstance(source, CachedSource)
    for name in ("outline", "agent_frame", "scene_objects"):
        monkeypatch.setattr(source.source, name, fail)


def entries(folder: Path, kind: str = "*") -> list[Path]:
    return sorted(path for path in folder.glob(f"*/*.{kind}") if not path.name.startswith("."))


def vehicle_points(source: Dataset) -> list[float]:
    frame = source.agent_frame(0, "vehicle")
    assert frame.lidar is not None
    return frame.lidar.points[:, 0].tolist()


def test_hit_and_miss_are_what_the_data_set_gives_to_the_last_bit(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root, split in write_both(tmp_path):
        cached = open_dataset(root, split, cache=folder)
        expected = scenes(open_dataset(root, split))
        assert scenes(cached) == expected
        forbid_reading(monkeypatch, cached)
        assert scenes(cached) == expected
        assert cached.summary.layout == open_dataset(root, split).summary.layout


def test_a_source_with_a_cache_can_be_sent_to_another_process(dair: Path, folder: Path) -> None:
    cached = open_dataset(dair, "val", cache=folder)
    assert scenes(pickle.loads(pickle.dumps(cached))) == scenes(cached)


def test_kept_points_are_numbers_that_may_be_changed(dair: Path, folder: Path) -> None:
    for _ in range(2):
        frame = open_dataset(dair, "val", cache=folder).agent_frame(0, "vehicle")
        assert frame.lidar is not None
        assert frame.lidar.points.flags.writeable and frame.lidar.points.flags.aligned
        frame.lidar.points[:] = 0


def test_other_agents_as_ego_and_fewer_agents_have_entries_of_their_own(dair: Path, folder: Path) -> None:
    for ego_id in ("vehicle", "roadside"):
        for most in (1, 2):
            cached = open_dataset(dair, "val", ego_id=ego_id, max_agents=most, cache=folder)
            assert scenes(cached) == scenes(open_dataset(dair, "val", ego_id=ego_id, max_agents=most))


def test_choices_have_entries_of_their_own(dair: Path, folder: Path) -> None:
    write_json(dair / INNER / "vehicle-side/label/lidar_backup/000011.json", [])
    cached = open_dataset(dair, "val", cache=folder)
    for _ in range(2):
        assert len(cached.agent_frame(0, "vehicle").objects) == 2
        assert len(cached.agent_frame(0, "vehicle", SensorChoice(labels="camera")).objects) == 0
        assert cached.agent_frame(0, "vehicle", SensorChoice(lidar=False)).lidar is None


def change_cloud(root: Path) -> None:
    write_pcd(root / VEHICLE_CLOUD, np.array([[7, 2, 3, 0.2], [8, 2, 3, 0.2]], np.float32))


def change_cloud_keeping_its_size(root: Path) -> None:
    before = (root / VEHICLE_CLOUD).stat()
    write_pcd(root / VEHICLE_CLOUD, np.array([[7, 2, 3, 0.2]], np.float32))
    os.utime(root / VEHICLE_CLOUD, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def change_pose(root: Path) -> None:
    path = root / INNER / "vehicle-side/calib/novatel_to_world/000011.json"
    pose = json.loads(path.read_text())
    pose["translation"] = [[1234.5], [2000.0], [1.0]]
    write_json(path, pose)


def change_offset(root: Path) -> None:
    path = root / INNER / "cooperative" / "data_info.json"
    values = json.loads(path.read_text())
    for entry in values:
        entry["system_error_offset"] = {"delta_x": 10.5, "delta_y": 1.0}
    write_json(path, values)


def change_labels(root: Path) -> None:
    write_json(root / INNER / "vehicle-side/label/lidar/000011.json", [])
    write_json(root / INNER / "cooperative/label_world/000011.json", [])


@pytest.mark.parametrize("change", [change_cloud, change_cloud_keeping_its_size, change_pose, change_offset, change_labels])
def test_a_changed_file_is_read_again_and_the_cache_does_not_grow(dair: Path, folder: Path, change: Callable[[Path], None]) -> None:
    before = scenes(open_dataset(dair, "val", cache=folder))
    kept = entries(folder)
    change(dair)
    after = scenes(open_dataset(dair, "val"))
    assert after != before
    assert scenes(open_dataset(dair, "val", cache=folder)) == after
    assert scenes(open_dataset(dair, "val", cache=folder)) == after
    assert entries(folder) == kept


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip_last_point(data: bytes) -> bytes:
    return data[:-64] + bytes([data[-64] ^ 1]) + data[-63:]


def flip_header(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 1]) + data[41:]


def lengthen(data: bytes) -> bytes:
    return data + bytes(64)


@pytest.mark.parametrize(
    "damage",
    [cut, flip_last_point, flip_header, lengthen, lambda _: b"", lambda _: b"something else"],
    ids=lambda value: value.__name__,
)
def test_damaged_entries_are_made_anew_without_a_word(dair: Path, folder: Path, damage: Callable[[bytes], bytes]) -> None:
    cached = open_dataset(dair, "val", cache=folder)
    expected = scenes(cached)
    whole = {path: path.read_bytes() for path in entries(folder)}
    for path, data in whole.items():
        path.write_bytes(damage(data))
    assert scenes(cached) == expected
    assert {path: path.read_bytes() for path in entries(folder)} == whole


def test_entries_of_another_version_are_made_anew(dair: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_file, "VERSION", entry_file.VERSION + 1)
    later = scenes(open_dataset(dair, "val", cache=folder))
    others = [path.read_bytes() for path in entries(folder)]
    monkeypatch.undo()
    assert scenes(open_dataset(dair, "val", cache=folder)) == later
    ours = [path.read_bytes() for path in entries(folder)]
    assert len(ours) == len(others) and not set(ours) & set(others)


def resealed(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace text in an entry's header, under a checksum that is right again."""
    header_bytes = struct.unpack_from("<I", data, 12)[0]
    header = data[32 : 32 + header_bytes].rstrip()
    assert old in header
    changed = header.replace(old, new)
    changed = changed.ljust(max(header_bytes, -(-len(changed) // 64) * 64 + 32))
    body = changed + data[32 + header_bytes :]
    return data[:12] + struct.pack("<IIQ4x", len(changed), zlib.crc32(body), 32 + len(body)) + body


WRONG = {
    "another array": (b'"<f8", [4, 4]', b'"<f4", [8, 4]'),
    "objects": (b'"<f8", [4, 4]', b'"|O", [4, 4]'),
    "no such type": (b'"<f8", [4, 4]', b'"what", [4, 4]'),
    "a shape of text": (b'"<f8", [4, 4]', b'"<f8", ["4", 4]'),
    "a negative shape": (b'"<f8", [4, 4]', b'"<f8", [-4, -4]'),
    "a shape beyond the file": (b'"<f8", [4, 4]', b'"<f8", [400000000, 4]'),
    "no arrays": (b'"arrays": [', b'"arrays": 7, "others": ['),
    "a time of text": (b'"timestamp_ns": ', b'"timestamp_ns": "x", "t": '),
    "classes that are none": (b'"kind": ', b'"classes": [1' + b"0" * 30 + b'], "kind": '),
    "no values": (b'"values": {', b'"values": 5, "v": {'),
    "nested values": (b'"values": {', b'"values": ' + b"[" * 5000 + b"]" * 5000 + b', "v": {'),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_entries_with_a_right_checksum_and_wrong_content_are_made_anew(
    dair: Path, folder: Path, change: tuple[bytes, bytes]
) -> None:
    first = CachedSource(open_dataset(dair, "val"), folder)
    expected = scenes(first)
    changed = [path for path in entries(folder) if change[0] in path.read_bytes()]
    kept = {path: path.read_bytes() for path in changed}
    for path, data in kept.items():
        path.write_bytes(resealed(data, *change))
    assert changed and scenes(CachedSource(open_dataset(dair, "val"), folder)) == expected
    assert {path: path.read_bytes() for path in changed} == kept


def test_an_outline_keeps_everything(dair: Path, folder: Path) -> None:
    source = open_dataset(dair, "val")
    assert source.outline(0).roadside_ego
    for _ in range(2):
        outline = CachedSource(source, folder).outline(0)
        names = [field.name for field in fields(outline) if field.name != "world_SE3_ego"]
        assert [getattr(outline, name) for name in names] == [getattr(source.outline(0), name) for name in names]


def test_missing_files_and_agents_are_told_as_without_a_cache(dair: Path, folder: Path) -> None:
    cached = open_dataset(dair, "val", cache=folder)
    with pytest.raises(UnknownAgentError, match="vehicle, roadside"):
        cached.agent_frame(0, "641")
    cached.agent_frame(0, "vehicle")
    (dair / VEHICLE_CLOUD).unlink()
    with pytest.raises(DatasetError, match=r"000011\.pcd: no such file"):
        cached.agent_frame(0, "vehicle")


def test_a_folder_that_cannot_be_written_is_told_and_does_not_stop(dair: Path, folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="the cache cannot be written"):
        assert vehicle_points(open_dataset(dair, "val", cache=folder)) == [1.0]


def fill(root: Path, folder: Path, times: int) -> None:
    source = open_dataset(root, "val", cache=folder)
    for _ in range(times):
        for path in entries(folder):
            path.unlink(missing_ok=True)
        scenes(source)


def test_two_processes_may_fill_a_cache_at_once(dair: Path, folder: Path) -> None:
    write_pcd(dair / VEHICLE_CLOUD, np.random.default_rng(0).random((20_000, 4)).astype(np.float32))
    expected = scenes(open_dataset(dair, "val"))
    start = multiprocessing.get_context("fork")
    workers = [start.Process(target=fill, args=(dair, folder, 20)) for _ in range(2)]
    for worker in workers:
        worker.start()
    cached = open_dataset(dair, "val", cache=folder)
    while any(worker.is_alive() for worker in workers):
        assert scenes(cached) == expected
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert not list(folder.glob("*/.*")), "an unfinished file was left"


def test_an_entry_keeps_types_shapes_and_empty_arrays(tmp_path: Path) -> None:
    arrays = (np.zeros((0, 8, 3)), np.arange(3), np.arange(12, dtype=">f4").reshape(3, 4), np.asfortranarray(np.eye(3)))
    write_entry(tmp_path / "a" / "entry", [(1, 2)], Entry({"n": 2**62, "text": "ä", "nothing": None}, arrays))
    found = read_entry(tmp_path / "a" / "entry", [(1, 2)])
    assert found is not None and found.values == {"n": 2**62, "text": "ä", "nothing": None}
    assert [array.dtype for array in found.arrays] == [np.dtype(kind) for kind in ("<f8", "<i8", "<f4", "<f8")]
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found.arrays, arrays, strict=True))
    assert read_entry(tmp_path / "a" / "entry", [(1, 3)]) is None
    assert read_entry(tmp_path / "a", [(1, 2)]) is None


def plain(value: object) -> object:
    """Return a batch as nested plain values, with tensors as bytes."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def training_batches(source: Dataset) -> list[object]:
    grid = BevGrid((-51.2, -51.2, -3.0, 51.2, 51.2, 1.0), 0.8)
    settings = TrainingConfig(base=BaseConfig(grid=grid), training=ScheduleConfig(epochs=2, batch_scenes=1, workers=0))
    model = CollabModel(BaseModel(settings.base), {"m1": AgentModel(AgentConfig(), grid)})
    steps = TrainingSteps(source, model, settings)
    return [plain(steps[step]) for step in range(len(steps))]


def test_training_batches_are_the_same_with_and_without_a_cache(tmp_path: Path, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for root, split in write_both(tmp_path):
        for path in root.rglob("*.pcd"):
            write_pcd(path, rng.uniform((-40, -40, -3, 0), (40, 40, 1, 1), (2000, 4)).astype(np.float32))
        expected = training_batches(open_dataset(root, split))
        for _ in range(2):
            assert training_batches(open_dataset(root, split, cache=folder)) == expected
