"""The reader of V2X-Sim: scenes of the town, written as its tables, are read back."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heal.datasets.cache.entry_file import Entry, stamps_of, write_entry
from heal.datasets.damage import find_damaged, require_files
from heal.datasets.dataset import DatasetError, UnknownAgentError
from heal.datasets.labels import class_of_name, type_of_category
from heal.datasets.open import open_dataset
from heal.datasets.split_names import NoSplitError
from heal.datasets.v2x_sim.build import opened_index
from heal.datasets.v2x_sim.index import INDEX
from heal.datasets.v2x_sim.source import V2xSimSource
from heal.datasets.v2x_sim.tables import TABLES, read_records, table_path
from heal.detection.label_filters import objects_within, without_vehicle_at
from heal.se3 import pose_to_SE3
from heal.types import AgentFrame, ObjectLabels, SensorChoice, load_scene
from tests.datasets.town_truth import town_scenes
from tests.datasets.v2x_sim.v2x_sim_tree import INTRINSIC, LEVEL, TO_THE_RIGHT, VERSION, Tree

TICKS = 2
LIDAR_AND_CAMERA = frozenset({"lidar", "camera"})


def write_tree(root: Path, **given: Any) -> Tree:
    """Write a recording for each split: the numbers 3, 5 and 7 are of the authors' validation, test and training lists."""
    tree = Tree(root, **given)
    for number, scenes in ((3, town_scenes()[:1]), (5, town_scenes()), (7, town_scenes()[1:])):
        tree.add_recording(f"scene_{number}", number, scenes)
    tree.write()
    return tree


def rewrite(root: Path, table: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
    path = root / VERSION / f"{table}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def set_all(**values: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Return a change that gives every record of a table the same values."""

    def change(records: list[dict[str, Any]]) -> None:
        for record in records:
            record.update(values)

    return change


def near(frame: AgentFrame, objects: ObjectLabels) -> ObjectLabels:
    """The objects within the LiDAR's 70 m, without the vehicle that carries the agent."""
    away = np.hypot(*(objects.world_corners.mean(axis=1) - frame.world_SE3_agent[:3, 3])[:, :2].T)
    there = objects.select(away <= 70.0)
    return there if frame.kind == "roadside" else without_vehicle_at(there, frame.world_SE3_agent)


@pytest.mark.parametrize("lidar", [LEVEL, TO_THE_RIGHT])
def test_scenes_are_read_back(tmp_path: Path, lidar: dict[str, list[float]]) -> None:
    write_tree(tmp_path, lidar=lidar)
    source = open_dataset(tmp_path, "test", LIDAR_AND_CAMERA)
    assert (source.summary.layout, len(source)) == ("V2X-Sim", TICKS)
    for index, truth in enumerate(town_scenes()):
        scene = load_scene(source, index)
        assert scene.outline.scene_id == f"scene_5/{index:06d}" and scene.outline.timestamp_ns == index * 200_000_000
        assert scene.outline.agent_ids == ("1", "2", "rsu_0") and scene.outline.ego_id == "1"
        for frame, expected in zip(scene.frames, truth.frames, strict=True):
            assert frame.kind == expected.kind and frame.lidar is not None and expected.lidar is not None
            np.testing.assert_allclose(frame.world_SE3_agent, expected.world_SE3_agent, atol=1e-9)
            np.testing.assert_allclose(frame.lidar.points, expected.lidar.points, atol=1e-4)
            assert frame.lidar.beams == 32
            there = near(expected, truth.objects)
            assert len(frame.objects) == len(there) > 10
            np.testing.assert_allclose(frame.objects.world_corners, there.world_corners, atol=1e-6)
        assert len(scene.objects) == len(ObjectLabels.union([near(frame, truth.objects) for frame in truth.frames]))


def test_points_are_bit_equal_where_the_lidar_stands_level(tmp_path: Path) -> None:
    write_tree(tmp_path)
    frame = V2xSimSource(tmp_path, "val").agent_frame(0, "rsu_0")
    expected = town_scenes()[0].frame("-1").lidar
    assert frame.lidar is not None and expected is not None
    np.testing.assert_array_equal(frame.lidar.points, expected.points)


def test_a_vehicle_keeps_its_id_through_a_recording(tmp_path: Path) -> None:
    write_tree(tmp_path)
    source = V2xSimSource(tmp_path, "test")
    names: list[dict[int, int]] = []  # the town's id -> the id that is read
    for index, truth in enumerate(town_scenes()):
        found = source.scene_objects(index)
        apart = np.abs(found.world_corners[:, None] - truth.objects.world_corners).max(axis=(2, 3))
        names.append({int(truth.objects.ids[column]): int(found.ids[row]) for row, column in np.argwhere(apart < 1e-6)})
    both = names[0].keys() & names[1].keys()
    assert len(both) > 10 and all(names[0][each] == names[1][each] for each in both)


def test_images_have_the_pose_of_their_camera(tmp_path: Path) -> None:
    write_tree(tmp_path, lidar=TO_THE_RIGHT)
    frame = V2xSimSource(tmp_path, "test").agent_frame(1, "2", SensorChoice(lidar=False, cameras=True))
    assert frame.lidar is None
    [camera] = frame.cameras
    assert camera.name == "CAM_FRONT" and camera.image.shape == (36, 64, 3) and (camera.image == 40 * 2 + 7).all()
    np.testing.assert_array_equal(camera.intrinsic, INTRINSIC)
    # The camera lies 0.6 m before the LiDAR and 0.4 m below it, and looks ahead: along the x axis of the agent.
    np.testing.assert_allclose(camera.agent_SE3_camera[:3, 3], [0.6, 0.0, -0.4], atol=1e-9)
    np.testing.assert_allclose(camera.agent_SE3_camera[:3, :3] @ [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(camera.agent_SE3_camera[:3, :3] @ [1.0, 0.0, 0.0], [0.0, -1.0, 0.0], atol=1e-9)


def test_cameras_label_what_is_near(tmp_path: Path) -> None:
    write_tree(tmp_path)
    source = V2xSimSource(tmp_path, "test")
    everything = source.agent_frame(0, "rsu_0", SensorChoice(lidar=False))
    seen = source.agent_frame(0, "rsu_0", SensorChoice(lidar=False, labels="camera"))
    nearby = objects_within(everything.objects, everything.world_SE3_agent, (-45.0, -45.0, -3.0, 45.0, 45.0, 1.0))
    assert seen.objects.ids.tolist() == nearby.ids.tolist()


def test_splits_are_the_authors_lists(tmp_path: Path) -> None:
    write_tree(tmp_path)
    found = {split: [*V2xSimSource(tmp_path, split).scenario_agents] for split in ("train", "validation", "test")}
    assert found == {"train": ["scene_7"], "validation": ["scene_3"], "test": ["scene_5"]}
    (tmp_path / VERSION).rename(tmp_path / "v2.0-mini")
    assert len(V2xSimSource(tmp_path / "v2.0-mini", "test")) == TICKS  # the tables' folder itself, and a small release
    tree = Tree(tmp_path / "small")
    tree.add_recording("scene_5", 5, town_scenes()[:1])
    with pytest.raises(NoSplitError, match="no recording of split 'val'; by the authors' lists there are 1 of test"):
        V2xSimSource(tree.write("v2.0-mini"), "val")
    tree.write()
    assert V2xSimSource(tree.root, "test")._tables.name == VERSION  # the whole release counts before a small one


def test_the_ego_and_the_number_of_agents_can_be_chosen(tmp_path: Path) -> None:
    write_tree(tmp_path)
    assert V2xSimSource(tmp_path, "test", ego_id="rsu_0").listed(0).agent_ids == ("rsu_0", "1", "2")
    source = V2xSimSource(tmp_path, "test", max_agents=2)
    assert source.listed(0).agent_ids == ("1", "2") and source.scenario_agents == {"scene_5": ("1", "2", "rsu_0")}
    assert "skipped scene_5/rsu_0: beyond the number of agents to use" in str(source.summary)
    with pytest.raises(UnknownAgentError, match="no agent 'rsu_0' in scene_5, sample 1, there are 1, 2"):
        source.agent_frame(1, "rsu_0")
    with pytest.raises(DatasetError, match="unknown agent '9' wanted as ego; there are 1, 2, rsu_0"):
        V2xSimSource(tmp_path, "test", ego_id="9")


def test_labels_that_do_not_count_are_named(tmp_path: Path) -> None:
    tree = write_tree(tmp_path)
    sample = tree.tables["sample"][1]["token"]
    before = len(V2xSimSource(tmp_path, "test").scene_objects(0))
    ahead = town_scenes()[0].ego.world_SE3_agent @ pose_to_SE3([9, 0, 0, 0, 0, 0])
    for name in ("walker.pedestrian.0001", "vehicle.bh.crossbike", "human.pedestrian.adult", "vehicle.bus.rigid"):
        tree.add_label(sample, f"more {name}", name, ahead, (8.0, 2.0, 3.0))
    tree.add_label(sample, "flat", "vehicle.audi.tt", ahead, (4.0, 2.0, 0.0))
    tree.write()
    source = V2xSimSource(tmp_path, "test")
    assert "labels left out: 2 pedestrian, 1 bicycle, 1 without a size" in str(source.summary)
    assert len(source.scene_objects(0)) == before + 1


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        ("vehicle.car", "car"),
        ("vehicle.audi.tt", "vehicle"),
        ("vehicle.emergency.police", "vehicle"),
        ("vehicle.bus.bendy", "bus"),
        ("vehicle.motorcycle", "motorcycle"),
        ("vehicle.harley-davidson.low_rider", "motorcycle"),
        ("vehicle.bicycle", "bicycle"),
        ("vehicle.diamondback.century", "bicycle"),
        ("human.pedestrian.adult", "pedestrian"),
        ("movable_object.barrier", "barrier"),
        ("Car", "Car"),
    ],
)
def test_categories_are_types(category: str, kind: str) -> None:
    assert type_of_category(category) == kind
    assert (class_of_name(kind) is not None) == (kind in ("car", "vehicle", "bus", "Car"))


def test_times_may_be_microseconds(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_recording("scene_5", 5, town_scenes())
    for record in tree.tables["sample"]:
        record["timestamp"] = 1_600_000_000_000_000 + 200_000 * record["timestamp"]
    source = V2xSimSource(tree.write(), "test")
    assert [source.listed(index).timestamp_ns for index in range(2)] == [1_600_000_001_200_000_000, 1_600_000_001_400_000_000]
    assert "numbers of frames" not in str(source.summary)


def test_a_frame_without_a_partner_is_a_scene_of_the_others(tmp_path: Path) -> None:
    write_tree(tmp_path)
    lidar = {"2": "sweeps/LIDAR_TOP_id_2/scene_5_000006.pcd.bin", "1": "sweeps/LIDAR_TOP_id_1/scene_5_000007.pcd.bin"}

    def drop(records: list[dict[str, Any]]) -> None:
        records[:] = [record for record in records if record["filename"] not in lidar.values()]

    rewrite(tmp_path, "sample_data", drop)
    source = V2xSimSource(tmp_path, "test")
    assert len(source) == 1 and source.listed(0).agent_ids == ("1", "rsu_0")
    text = str(source.summary)
    assert "skipped scene_5/2: 1 frames that agent 2 lacks, from 000000" in text
    assert "skipped scene_5/2: 1 frames that the ego 1 lacks, from 000001" in text


def test_a_record_that_cannot_be_used_costs_only_itself(tmp_path: Path) -> None:
    write_tree(tmp_path)

    def damage(records: list[dict[str, Any]]) -> None:
        own = [record for record in records if record["filename"].startswith("sweeps/LIDAR_TOP_id_2/scene_5")]
        own[0].pop("filename")
        own[1]["ego_pose_token"] = "nowhere"

    rewrite(tmp_path, "sample_data", damage)
    rewrite(tmp_path, "sample_annotation", lambda records: records[0].update(rotation=[0.0, 0.0, 0.0, 0.0]))
    source = V2xSimSource(tmp_path, "test")
    assert [source.listed(index).agent_ids for index in range(2)] == [("1", "rsu_0")] * 2
    text = str(source.summary)
    assert (
        "skipped sample_data.json: 2 records cannot be used; the first" in text and "no entry or unknown token 'filename'" in text
    )
    assert "skipped sample_annotation.json: 1 records cannot be used" in text and "the quaternion w, x, y, z not 0" in text


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    write_tree(tmp_path)
    gone, cut = (tmp_path / f"sweeps/LIDAR_TOP_id_1/scene_5_00000{frame}.pcd.bin" for frame in (6, 7))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-7])
    source = V2xSimSource(tmp_path, "test")

    def reads(outline: Any) -> list[tuple[str, SensorChoice]]:
        return [(agent_id, SensorChoice()) for agent_id in outline.agent_ids]

    with pytest.raises(DatasetError, match=r"scene_5_000006.pcd.bin: no such file"):
        require_files(source, range(2), reads)
    damages = find_damaged(source, range(2), reads)
    assert sorted(damages) == [0, 1]
    assert "expected points of 20 bytes each (x, y, z, intensity, ring as float32)" in damages[1][1]


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda text: text[: len(text) // 2], "not valid JSON, or cut off"),
        (lambda text: '{"token": 1}', "expected a list of records"),
        (lambda text: "[1, 2]", "not valid JSON, or cut off"),
        (lambda text: '[1, {"token": 2}]', "each a mapping, got int in it"),
        (lambda text: "", "expected a list of records, got ''"),
        (lambda text: text.replace('"', "'", 2), "not valid JSON"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, damage: Callable[[str], str], cause: str) -> None:
    write_tree(tmp_path)
    path = tmp_path / VERSION / "ego_pose.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(DatasetError, match=cause) as raised:
        V2xSimSource(tmp_path, "test")
    assert raised.value.path == path


@pytest.mark.parametrize("piece_bytes", [1, 7, 64, 1 << 21])
@pytest.mark.parametrize("indent", [None, 0])
def test_a_table_is_read_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int, indent: int | None
) -> None:
    monkeypatch.setattr("heal.datasets.v2x_sim.tables.PIECE_BYTES", piece_bytes)
    records = [{"token": f"{number}}}, {{", "inner": {"number": [number, 0.5]}, "text": 'a "b", ü}'} for number in range(9)]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(records, indent=indent, ensure_ascii=False) + "\n")
    assert list(read_records(path)) == records
    path.write_text("[ ]\n")
    assert list(read_records(path)) == []


def test_missing_tables_and_other_sensors_are_named(tmp_path: Path) -> None:
    write_tree(tmp_path)
    rewrite(tmp_path, "sensor", set_all(channel="LIDAR_TOP"))
    with pytest.raises(DatasetError, match="no calibration of a LiDAR of an agent, expected channels such as LIDAR_TOP_id_1"):
        V2xSimSource(tmp_path, "test")
    write_tree(tmp_path)
    (tmp_path / VERSION / "instance.json").unlink()
    with pytest.raises(DatasetError, match=r"instance.json: no such file"):
        open_dataset(tmp_path, "test", cache=tmp_path / "cache")


def test_the_index_in_a_cache_gives_equal_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path)
    first = V2xSimSource(tmp_path, "test", cache=tmp_path / "cache")
    with monkeypatch.context() as patched:
        patched.setattr("heal.datasets.v2x_sim.build.build_index", None)  # no table may be read again
        again = V2xSimSource(tmp_path, "test", LIDAR_AND_CAMERA, cache=tmp_path / "cache")
    plain = V2xSimSource(tmp_path, "test", LIDAR_AND_CAMERA)
    assert str(replace(again.summary, notes=())) == str(replace(first.summary, notes=())) == str(replace(plain.summary, notes=()))
    for index in range(TICKS):
        one, other = load_scene(again, index), load_scene(plain, index)
        assert one.outline.scene_id == other.outline.scene_id
        np.testing.assert_array_equal(one.objects.world_corners, other.objects.world_corners)
        for frame, expected in zip(one.frames, other.frames, strict=True):
            np.testing.assert_array_equal(frame.world_SE3_agent, expected.world_SE3_agent)
            np.testing.assert_array_equal(frame.cameras[0].agent_SE3_camera, expected.cameras[0].agent_SE3_camera)
    rewrite(tmp_path, "category", set_all(name="walker.pedestrian.1"))
    assert len(V2xSimSource(tmp_path, "test", cache=tmp_path / "cache").scene_objects(0)) == 0  # the tables have changed


@pytest.mark.parametrize("harm", ["no arrays", "another type", "a place too far", "no names"])
def test_an_index_with_other_content_is_made_anew(harm: str, tmp_path: Path) -> None:
    write_tree(tmp_path)
    folder = tmp_path / VERSION
    expected = opened_index(folder, tmp_path / "cache")
    [path] = (tmp_path / "cache").rglob("*.tables")
    entry = INDEX.pack(expected)
    arrays = list(entry.arrays)
    if harm == "another type":
        arrays[2] = arrays[2].astype(np.float64)
    elif harm == "a place too far":
        arrays[2] = arrays[2] + 1000
    values = {} if harm == "no names" else entry.values
    stamps = stamps_of([table_path(folder, table) for table in TABLES])
    write_entry(path, stamps, Entry(values, () if harm == "no arrays" else tuple(arrays)))
    again = opened_index(folder, tmp_path / "cache")
    np.testing.assert_array_equal(again.recordings, expected.recordings)
    assert again.scenes == expected.scenes


def test_frames_through_the_cache_are_equal(tmp_path: Path) -> None:
    write_tree(tmp_path)
    plain, cached = (open_dataset(tmp_path, "test", cache=cache) for cache in (None, tmp_path / "cache"))
    for source in (cached, open_dataset(tmp_path, "test", cache=tmp_path / "cache")):
        one, other = source.agent_frame(0, "1"), plain.agent_frame(0, "1")
        assert one.lidar is not None and other.lidar is not None
        np.testing.assert_array_equal(one.lidar.points, other.lidar.points)
        np.testing.assert_array_equal(one.objects.world_corners, other.objects.world_corners)


def test_source_survives_pickling(tmp_path: Path) -> None:
    write_tree(tmp_path)
    source = V2xSimSource(tmp_path, "test")
    after = pickle.loads(pickle.dumps(source)).agent_frame(0, "2")
    np.testing.assert_array_equal(after.world_SE3_agent, source.agent_frame(0, "2").world_SE3_agent)


def test_rules_of_other_layouts_are_refused(tmp_path: Path) -> None:
    write_tree(tmp_path)
    with pytest.raises(DatasetError, match="a rule for DAIR-V2X-C and V2V4Real, and this is V2X-Sim's layout"):
        open_dataset(tmp_path, "test", ground_truth="merged")
