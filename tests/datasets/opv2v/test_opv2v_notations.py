"""Notations of OPV2V's layout that people meet: poses, labels, and names of splits, agents and frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from heal.datasets.dataset import DatasetError
from heal.datasets.open import open_dataset
from heal.datasets.opv2v.source import Opv2vSource
from heal.se3 import pose_to_SE3
from heal.types import load_scene
from tests.datasets.opv2v.opv2v_tree import metadata, vehicle, write_frame

POSE = [3.0, 4.0, 1.0, 5.0, 30.0, -2.0]
MIRROR = np.diag([1.0, 1.0, -1.0, 1.0])


def write(root: Path, *frames: dict[str, Any], split: str = "test", agent: str = "101") -> Path:
    """Write frames 000020, 000022, ... of one agent as `yaml.dump` does."""
    for number, values in enumerate(frames):
        folder = root / split / "drive_a" / agent
        write_frame(folder, f"{20 + 2 * number:06d}", metadata())
        (folder / f"{20 + 2 * number:06d}.yaml").write_text(yaml.dump(values))
    return root


def of(*vehicles: Any) -> dict[str, Any]:
    """Metadata with vehicles 1, 2, ..."""
    return metadata(vehicles=dict(enumerate(vehicles, 1)))


def counts(source: Any) -> list[int]:
    return [len(load_scene(source, index).objects) for index in range(len(source))]


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in of(vehicle(9.0, 0.0)).items() if name != key}


def test_numpy_values_in_metadata_are_read(tmp_path: Path) -> None:
    poses = [np.array(POSE), [np.float64(value) for value in POSE], tuple(POSE)]
    frames = [{**metadata(vehicles={np.int64(7): vehicle(15.0, 6.0)}), "lidar_pose": pose} for pose in poses]
    frames.append({**of(vehicle(15.0, 6.0)), "gps": np.float64(1.0), "lidar_pose": POSE})
    source = Opv2vSource(write(tmp_path, *frames), "test")
    assert counts(source) == [1, 1, 1, 1]
    assert source.scene_objects(0).ids.tolist() == [7]
    for index in range(4):
        np.testing.assert_array_equal(source.outline(index).world_SE3_ego, pose_to_SE3(POSE))


def test_a_pose_may_be_a_rigid_matrix(tmp_path: Path) -> None:
    camera = metadata()["camera0"]
    cords = {**camera, "cords": pose_to_SE3(camera["cords"]).tolist()}
    frames = [
        {**metadata(), "lidar_pose": POSE},
        {**metadata(), "lidar_pose": pose_to_SE3(POSE).tolist(), "camera0": cords},
        {**metadata(), "lidar_pose": pose_to_SE3(POSE), "camera0": {**camera, "cords": pose_to_SE3(camera["cords"])}},
    ]
    source = Opv2vSource(write(tmp_path, *frames), "test", {"camera"})
    expected = source.agent_frame(0, "101")
    for index in (1, 2):
        found = source.agent_frame(index, "101")
        np.testing.assert_array_equal(found.world_SE3_agent, expected.world_SE3_agent)
        np.testing.assert_array_equal(found.cameras[0].agent_SE3_camera, expected.cameras[0].agent_SE3_camera)


@pytest.mark.parametrize(
    ("pose", "cause"),
    [
        (pose_to_SE3(POSE) @ MIRROR, "lidar_pose: .* mirrors space"),
        (np.diag([2.0, 1.0, 1.0, 1.0]), "lidar_pose: expected a rigid 4x4 transform"),
        (pose_to_SE3(POSE)[:3], "lidar_pose: expected 6 finite numbers .* or a rigid 4x4 matrix"),
        (np.full((4, 4), np.nan), "lidar_pose: expected a rigid 4x4 transform"),
        ("here", "lidar_pose: expected 6 finite numbers"),
    ],
)
@pytest.mark.parametrize("key", ["lidar_pose", "camera0"])
def test_a_matrix_that_is_no_pose_is_refused_in_one_line(tmp_path: Path, key: str, pose: Any, cause: str) -> None:
    value = np.asarray(pose).tolist()
    values = {**metadata(), key: value if key == "lidar_pose" else {**metadata()[key], "cords": value}}
    source = Opv2vSource(write(tmp_path, values), "test")
    with pytest.raises(
        DatasetError, match=cause.replace("lidar_pose", "lidar_pose" if key == "lidar_pose" else "camera0: cords")
    ) as e:
        source.outline(0)
    assert e.value.path.name == "000020.yaml" and "\n" not in str(e.value)


def test_a_list_of_objects_with_ids_reads_as_a_mapping(tmp_path: Path) -> None:
    entries = [{**vehicle(12.0, 2.0), "id": 3}, {**vehicle(20.0, 2.0), "id": "4"}]
    listed = Opv2vSource(write(tmp_path, {**metadata(), "vehicles": entries}), "test").scene_objects(0)
    mapped = {3: entries[0], "4": entries[1]}
    expected = Opv2vSource(write(tmp_path / "mapped", {**metadata(), "vehicles": mapped}), "test").scene_objects(0)
    assert listed.ids.tolist() == expected.ids.tolist() == [3, 4]
    np.testing.assert_array_equal(listed.world_corners, expected.world_corners)


@pytest.mark.parametrize(
    ("vehicles", "cause"),
    [
        ("none", "vehicles: expected a mapping of ids to objects, or a list"),
        ([vehicle(1.0, 0.0)], "object 0: no entry 'id'"),
        ([{**vehicle(1.0, 0.0), "id": 3}] * 2, "object 3: .* listed twice"),
        ({3: vehicle(1.0, 0.0), "3": vehicle(2.0, 0.0)}, "object 3: .* listed twice"),
        ({2**63: vehicle(1.0, 0.0)}, "expected a whole number of at most 64 bits"),
        ({3.5: vehicle(1.0, 0.0)}, "expected a whole number of at most 64 bits"),
        ({"car": vehicle(1.0, 0.0)}, "expected a whole number of at most 64 bits"),
        ({3: [1, 2]}, "object 3: expected a mapping"),
        ({3: {**vehicle(1.0, 0.0), "location": {"x": 1}}}, "object 3: location: expected 3 finite numbers"),
    ],
)
def test_labels_of_another_structure_are_named(tmp_path: Path, vehicles: Any, cause: str) -> None:
    source = Opv2vSource(write(tmp_path, {**metadata(), "vehicles": vehicles}), "test")
    with pytest.raises(DatasetError, match=cause) as raised:
        source.scene_objects(0)
    assert raised.value.path.name == "000020.yaml"


def test_only_vehicles_count_and_the_others_are_listed(tmp_path: Path) -> None:
    kinds = ["Car", "Pedestrian", "Cyclist", None, "POLICE_CAR", "Pedestrian", "wheelbarrow"]
    entries = [{**vehicle(8.0 * n, 0.0), **({"obj_type": kind} if kind else {})} for n, kind in enumerate(kinds)]
    entries += [{**vehicle(90.0, 0.0), "bp_id": name} for name in ("walker.pedestrian.0001", "vehicle.audi.tt")]
    entries += [{**vehicle(99.0, 0.0), "type": "van"}, {**vehicle(107.0, 0.0), "class": "bus"}]
    source = Opv2vSource(write(tmp_path, of(*entries)), "test")
    assert source.scene_objects(0).ids.tolist() == [1, 4, 5, 9, 10, 11]
    assert "labels left out: 2 Pedestrian, 1 Cyclist, 1 walker, 1 wheelbarrow" in str(source.summary)


@pytest.mark.parametrize("size", [[0, 0, 0], [2.0, 1.0, 0.0], [2.0, -1.0, 0.75], [2.0, float("nan"), 1.0], [float("inf"), 1, 1]])
def test_an_object_without_a_size_is_no_object(tmp_path: Path, size: list[float]) -> None:
    source = Opv2vSource(write(tmp_path, of(vehicle(9.0, 0.0), {**vehicle(20.0, 0.0), "extent": size})), "test")
    assert source.scene_objects(0).ids.tolist() == [1]
    assert "labels left out: 1 without a size" in str(source.summary)


def test_good_labels_are_silent_in_any_spelling(tmp_path: Path) -> None:
    values = of({**vehicle(9.0, 0.0), "obj_type": "Car"}, vehicle(20.0, 0.0))
    source = Opv2vSource(write(tmp_path, values, metadata(), {**metadata(), "vehicles": []}), "test")
    assert (counts(source), source.summary.notes, source.summary.skipped) == ([2, 0, 0], (), ())
    folder = tmp_path / "flow" / "test" / "drive_a" / "101"
    write_frame(folder, "000020", metadata())
    (folder / "000020.yaml").write_text(yaml.dump(values, default_flow_style=True))
    (folder / "000022.json").write_text(json.dumps(values))
    source = Opv2vSource(tmp_path / "flow", "test")
    assert (source.summary.notes, source.summary.skipped) == ((), ()) and source.scene_objects(1).ids.tolist() == [1, 2]


def test_a_frame_without_labels_is_not_one_without_objects(tmp_path: Path) -> None:
    whole, cut = of(vehicle(9.0, 0.0)), {"lidar_pose": [0.0] * 6}
    root = write(tmp_path, whole, without("vehicles"), metadata(), cut, {**metadata(), "vehicles": None})
    source = open_dataset(root, "test", on_damage="skip")
    assert [source.outline(index).scene_id for index in range(len(source))] == ["drive_a/000020", "drive_a/000024"]
    assert (counts(source), source.summary.frames, source.summary.damaged) == ([1, 0], 2, 3)
    for stamp in ("000022", "000026", "000028"):
        assert f"skipped drive_a/101/{stamp}.yaml: no labels" in str(source.summary)
    with pytest.raises(DatasetError, match=r"000022\.yaml: no labels: .*000026\.yaml: .*000028\.yaml: .*--on-damage skip"):
        open_dataset(root, "test")


def test_recordings_without_any_labels_can_be_run(tmp_path: Path) -> None:
    source = Opv2vSource(write(tmp_path, without("vehicles"), without("vehicles")), "test")
    assert counts(source) == [0, 0] and "no scene has labels" in str(source.summary)


@pytest.mark.parametrize("there", ["val", "validate", "validation", "Val"])
@pytest.mark.parametrize("asked", ["val", "validate", "validation"])
def test_the_validation_split_has_many_names(tmp_path: Path, there: str, asked: str) -> None:
    source = open_dataset(write(tmp_path, metadata(), split=there), asked)
    assert len(source) == 1 and source.summary.split == there


def test_the_name_itself_counts_before_its_synonyms(tmp_path: Path) -> None:
    write(tmp_path, metadata(), metadata(), split="val")
    write(tmp_path, metadata(), split="validate")
    assert [len(open_dataset(tmp_path, name)) for name in ("val", "validate", "validation")] == [2, 1, 1]


def test_the_agent_called_ego_is_the_ego(tmp_path: Path) -> None:
    for agent in ("101", "rsu_1", "ego", "-1"):
        write(tmp_path, metadata(), agent=agent)
    source = open_dataset(tmp_path, "test")
    assert source.outline(0).agent_ids == ("ego", "101", "-1", "rsu_1")
    assert [source.agent_frame(0, name).kind for name in source.outline(0).agent_ids] == ["vehicle"] * 2 + ["roadside"] * 2
    assert source.summary.skipped == ()


def test_agents_need_no_numbers(tmp_path: Path) -> None:
    write(tmp_path, metadata(), agent="cav_2")
    assert open_dataset(write(tmp_path, metadata(), agent="cav_1"), "test").outline(0).agent_ids == ("cav_1", "cav_2")


def test_another_ego_than_expected_is_said_aloud(tmp_path: Path) -> None:
    write(tmp_path, metadata(), agent="102")
    for name in ("101", "103"):
        (tmp_path / "test" / "drive_a" / name).mkdir()
    text = str(open_dataset(tmp_path, "test").summary)
    assert "drive_a/101: no metadata (.yaml) in it; ATTENTION, 102 is the ego in its place" in text
    assert text.endswith("drive_a/103: no metadata (.yaml) in it")


@pytest.mark.parametrize("place", ["test/test", "OPV2V", "release_3", "OPV2V/test"])
def test_a_set_that_was_unpacked_once_too_often_is_found(tmp_path: Path, place: str) -> None:
    inner = tmp_path / place
    write(inner if not place.endswith("test") else inner.parent / "test", metadata())
    (tmp_path / "notes").mkdir()
    source = open_dataset(tmp_path, "test")
    assert len(source) == 1 and source.agent_frame(0, "101").lidar is not None
    assert ("read from the folder test/test" in str(source.summary)) == place.endswith("test")


@pytest.mark.parametrize("agent", ["101", "ego"])
def test_a_scenario_may_have_the_name_of_its_split(tmp_path: Path, agent: str) -> None:
    write_frame(tmp_path / "test" / "test" / agent, "000020", metadata())
    assert open_dataset(tmp_path, "test").outline(0).scene_id == "test/000020"


def test_scenarios_beside_a_folder_of_the_split_are_kept(tmp_path: Path) -> None:
    write(tmp_path, metadata())
    write(tmp_path / "test", metadata(), metadata())
    source = open_dataset(tmp_path, "test")
    assert [source.outline(index).scene_id for index in range(len(source))] == ["drive_a/000020"]
    assert "skipped test: no agent with a frame in it" in str(source.summary)


def spell(folder: Path, agent: str, stamp: str) -> None:
    write_frame(folder / "test" / "drive_a" / agent, stamp, metadata())


def test_frames_meet_by_number_whatever_their_padding(tmp_path: Path) -> None:
    for agent, stamp in (("101", "000020"), ("102", "20"), ("102", "22"), ("101", "0000000022")):
        spell(tmp_path, agent, stamp)
    source = open_dataset(tmp_path, "test")
    assert [source.outline(index).scene_id for index in range(2)] == ["drive_a/000020", "drive_a/0000000022"]
    assert [source.outline(index).agent_ids for index in range(2)] == [("101", "102")] * 2
    assert source.agent_frame(0, "102").lidar is not None and source.summary.skipped == ()


def test_one_frame_in_two_spellings_counts_once(tmp_path: Path) -> None:
    for stamp in ("20", "000020"):
        spell(tmp_path, "101", stamp)
    source = open_dataset(tmp_path, "test")
    assert len(source) == 1
    assert source.summary.skipped == (("drive_a/101/20", "the same frame as 000020"),)
