"""The reader of TUMTraf-V2X: scenes of the town, written as its OpenLABEL files and clouds, are read back."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heal.datasets.damage import find_damaged, require_files, require_images
from heal.datasets.dataset import DatasetError, UnknownAgentError
from heal.datasets.open import default_split, open_dataset
from heal.datasets.split_names import NoSplitError
from heal.datasets.tumtraf.source import TumTrafSource
from heal.detection.label_filters import without_vehicle_at
from heal.se3 import inverse_SE3, transform_points
from heal.types import SceneOutline, SensorChoice, load_scene
from tests.datasets.town_truth import town_scenes
from tests.datasets.tumtraf.tumtraf_tree import ROADSIDE, VEHICLE, cloud_path, cuboid, label_path, write_split

AGENTS = {"vehicle": "1000", "roadside": "-1"}  # ours -> the town's


def change_frame(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text())
    change(values["openlabel"]["frames"]["0"])
    path.write_text(json.dumps(values))


def reads(outline: SceneOutline) -> list[tuple[str, SensorChoice]]:
    return [(agent_id, SensorChoice()) for agent_id in outline.agent_ids]


def test_scenes_are_read_back(tmp_path: Path) -> None:
    write_split(tmp_path / "val", town_scenes())
    source = open_dataset(tmp_path, default_split(tmp_path))
    assert (source.summary.layout, source.summary.split, len(source)) == ("TUMTraf-V2X", "val", 2)
    assert source.scenario_agents == {"1688626050": ("vehicle", "roadside")}
    for index, truth in enumerate(town_scenes()):
        scene = load_scene(source, index)
        roadside_SE3_world = inverse_SE3(truth.frame("-1").world_SE3_agent)
        assert scene.outline.scene_id == f"1688626050/1688626050_{index}00000000" and scene.outline.ego_id == "vehicle"
        assert scene.outline.timestamp_ns == 1_688_626_050_000_000_000 + index * 100_000_000
        assert scene.ego.timestamp_ns == scene.outline.timestamp_ns + 30_000_000
        corners = transform_points(roadside_SE3_world, truth.objects.world_corners)
        np.testing.assert_allclose(scene.objects.world_corners, corners, atol=1e-6)
        for frame, kind, lines in zip(scene.frames, ("vehicle", "roadside"), (32, 64), strict=True):
            expected = truth.frame(AGENTS[frame.agent_id])
            assert frame.kind == kind and frame.lidar is not None and expected.lidar is not None and frame.lidar.beams == lines
            np.testing.assert_allclose(frame.world_SE3_agent, roadside_SE3_world @ expected.world_SE3_agent, atol=1e-9)
            np.testing.assert_array_equal(frame.lidar.points[:, :3], expected.lidar.points[:, :3])
            np.testing.assert_allclose(frame.lidar.points[:, 3], expected.lidar.points[:, 3], atol=0.5 / 255 + 1e-6)
        own = without_vehicle_at(truth.objects, truth.frame("1000").world_SE3_agent)
        assert len(scene.frame("roadside").objects) == len(truth.objects) > len(scene.ego.objects) == len(own)


def test_tracks_keep_their_ids(tmp_path: Path) -> None:
    write_split(tmp_path / "train", town_scenes())
    source = TumTrafSource(tmp_path, "train")
    ids = [source.scene_objects(index).ids.tolist() for index in range(2)]
    pairs = [dict(zip(truth.objects.ids.tolist(), read, strict=True)) for truth, read in zip(town_scenes(), ids, strict=True)]
    both = pairs[0].keys() & pairs[1].keys()
    assert len(both) > 10 and all(pairs[0][each] == pairs[1][each] for each in both) and min(ids[0]) >= 0


def test_folders_may_be_spelled_as_the_documentation_does(tmp_path: Path) -> None:
    write_split(tmp_path / "train", town_scenes())
    (tmp_path / "train" / "labels_point_clouds").rename(tmp_path / "train" / "_labels_point_clouds")
    (tmp_path / "train" / "point_clouds").rename(tmp_path / "train" / "_points_clouds")
    frame = open_dataset(tmp_path, "train").agent_frame(1, "roadside")
    assert frame.lidar is not None and len(frame.lidar.points) > 1000


def test_a_long_pause_begins_a_recording(tmp_path: Path) -> None:
    write_split(tmp_path / "train", town_scenes(), pause_s=11)
    source = TumTrafSource(tmp_path, "train")
    assert [*source.scenario_agents] == ["1688626050", "1688626061"] and source.summary.agents == 4


def test_the_ego_can_be_the_roadside_unit_and_agents_limited(tmp_path: Path) -> None:
    write_split(tmp_path / "val", town_scenes())
    assert TumTrafSource(tmp_path, "val", ego_id="roadside").outline(0).agent_ids == ("roadside", "vehicle")
    alone = TumTrafSource(tmp_path, "validate", max_agents=1)
    assert alone.outline(0).agent_ids == ("vehicle",)
    with pytest.raises(UnknownAgentError, match="no agent 'roadside', there are vehicle"):
        alone.agent_frame(0, "roadside")
    with pytest.raises(DatasetError, match="unknown agent '641' wanted as ego; there are vehicle, roadside"):
        TumTrafSource(tmp_path, "val", ego_id="641")


def test_splits_without_labels_are_named(tmp_path: Path) -> None:
    write_split(tmp_path / "val", town_scenes())
    with pytest.raises(NoSplitError, match=r"no such split; .* holds val"):
        open_dataset(tmp_path, "train")
    cloud = cloud_path(tmp_path / "test", "1688626050_000000000", VEHICLE)
    cloud.parent.mkdir(parents=True)
    with pytest.raises(DatasetError, match="the split has no labels; those of the test split are not published"):
        open_dataset(tmp_path, "test")
    with pytest.raises(DatasetError, match="a rule for DAIR-V2X-C and V2V4Real, and this is TUMTraf-V2X's layout"):
        open_dataset(tmp_path, "val", ground_truth="merged")


def test_labels_that_do_not_count_are_named(tmp_path: Path) -> None:
    [stamp, _] = write_split(tmp_path / "val", town_scenes())
    before = len(TumTrafSource(tmp_path, "val").scene_objects(0))
    box = [9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 4.0, 2.0, 1.5]
    more = {kind: cuboid(kind, box) for kind in ("PEDESTRIAN", "BICYCLE", "MOTORCYCLE", "EMERGENCY_VEHICLE", "TRAILER")}
    more["VAN"] = cuboid("VAN", [*box[:9], 0.0])
    change_frame(label_path(tmp_path / "val", stamp), lambda frame: frame["objects"].update(more))
    source = TumTrafSource(tmp_path, "val")
    assert "labels left out: 1 BICYCLE, 1 MOTORCYCLE, 1 PEDESTRIAN, 1 without a size" in str(source.summary)
    assert len(source.scene_objects(0)) == before + 2


def test_images_are_named_as_not_read(tmp_path: Path) -> None:
    write_split(tmp_path / "val", town_scenes())
    source = TumTrafSource(tmp_path, "val", {"lidar", "camera"})
    assert "skipped camera: TUMTraf-V2X's are not read" in str(source.summary)
    with pytest.raises(DatasetError, match=r"no camera image is there .* no agent lists any"):
        require_images(source, range(2), lambda outline: [("vehicle", SensorChoice(cameras=True))])


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    split = tmp_path / "val"
    first, second = write_split(split, town_scenes())
    cloud_path(split, first, ROADSIDE).unlink()
    label_path(split, second).write_text("{")
    source = TumTrafSource(tmp_path, "val")
    with pytest.raises(DatasetError, match="no such file") as raised:
        require_files(source, range(2), reads)
    assert raised.value.path == cloud_path(split, first, ROADSIDE) and "not valid JSON" in str(raised.value)
    assert sorted(find_damaged(source, range(2), reads)) == [0, 1]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda frame: frame["frame_properties"].pop("transforms"), "frame_properties: no entry 'transforms'"),
        (lambda frame: frame["frame_properties"].update(point_cloud_file_names=[]), f"no cloud of {VEHICLE}, there are$"),
        (
            lambda frame: frame["frame_properties"].update(point_cloud_file_names=["a.pcd"]),
            "expected a file name such as 1688626050",
        ),
        (lambda frame: frame["objects"].update(a={"object_data": {"type": "CAR"}}), "object a: no entry 'cuboid'"),
        (lambda frame: frame["objects"].update(a=cuboid("CAR", [1.0] * 9)), "object a: cuboid: expected 10 finite numbers"),
        (lambda frame: frame["objects"].update(a=cuboid("CAR", [0.0] * 10)), "a quaternion x, y, z, w that is not 0"),
    ],
)
def test_a_label_file_that_cannot_be_used_is_named(tmp_path: Path, change: Callable[[Any], Any], cause: str) -> None:
    stamp, _ = write_split(tmp_path / "val", town_scenes())
    change_frame(label_path(tmp_path / "val", stamp), change)
    source = TumTrafSource(tmp_path, "val")
    with pytest.raises(DatasetError, match=cause) as raised:
        source.agent_frame(0, "vehicle")
    assert raised.value.path == label_path(tmp_path / "val", stamp)
    assert len(source.agent_frame(1, "vehicle").objects) > 10


def test_frames_through_the_cache_and_after_pickling_are_equal(tmp_path: Path) -> None:
    write_split(tmp_path / "val", town_scenes())
    plain = TumTrafSource(tmp_path, "val")
    filled, cached = (open_dataset(tmp_path, "val", cache=tmp_path / "cache") for _ in range(2))
    for source in (filled, cached, pickle.loads(pickle.dumps(plain))):
        one, other = source.agent_frame(0, "vehicle"), plain.agent_frame(0, "vehicle")
        assert one.lidar is not None and other.lidar is not None
        np.testing.assert_array_equal(one.lidar.points, other.lidar.points)
        np.testing.assert_array_equal(one.world_SE3_agent, other.world_SE3_agent)
        np.testing.assert_array_equal(one.objects.world_corners, other.objects.world_corners)
