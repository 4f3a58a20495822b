"""The reader of CooperScene: what was written from the town is read back, and what tells it from OPV2V."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from heal.datasets.cooperscene.metadata import parse_cooperscene
from heal.datasets.open import open_dataset
from heal.se3 import SE3_to_pose, pose_to_SE3
from heal.types import ObjectLabels
from tests.datasets.cooperscene.cooperscene_tree import cooperscene_frames, listed, write_cooperscene
from tests.datasets.road_scenes import assert_as_sensed

WORD_STEP = 0.5 / 65535 + 1e-6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cooperscene(tmp_path_factory.mktemp("data"), cooperscene_frames())


def test_scenes_are_those_that_were_written(root: Path) -> None:
    source = open_dataset(root, "test")
    assert source.summary.layout == "CooperScene"
    assert "floats are read on the scale 0 to 65535" in str(source.summary)
    assert_as_sensed(source, cooperscene_frames(), WORD_STEP)


def test_agent_0_is_the_roadside_unit_and_the_ego_a_vehicle(root: Path) -> None:
    source = open_dataset(root, "test")
    assert source.outline(0).agent_ids == ("1", "2", "0")
    assert [source.agent_frame(0, agent_id).kind for agent_id in ("1", "2", "0")] == ["vehicle", "vehicle", "roadside"]
    assert open_dataset(root, "test:ic").outline(0).ego_id == "0"


def test_the_smallest_step_of_the_numbers_is_a_tenth_of_a_second(root: Path) -> None:
    source = open_dataset(root, "test")
    assert source.outline(1).timestamp_ns - source.outline(0).timestamp_ns == 100_000_000
    assert source.agent_frame(1, "0").timestamp_ns == source.outline(1).timestamp_ns


def test_the_folder_of_another_name_is_read_as_opv2v(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "takes"
    shutil.copytree(root, other)
    source = open_dataset(other, "test")
    assert (source.summary.layout, source.outline(0).ego_id) == ("OPV2V", "0")
    for path in other.rglob("*.yaml"):
        path.write_text(path.read_text() + "lla_origin:\n- 33.9\n- -117.3\n- 273.0\n")
    assert open_dataset(other, "test").summary.layout == "CooperScene"


@pytest.mark.parametrize("opposite_tilt", [False, True])
def test_objects_stand_upright_on_the_lidar_whatever_the_signs_of_their_tilt(opposite_tilt: bool) -> None:
    world_SE3_lidar = pose_to_SE3([3.0, 4.0, 2.7, -0.5, 64.6, 7.6])
    upright = [
        world_SE3_lidar @ pose_to_SE3([x, 5.0, -2.0, 0.0, yaw, 0.0]) for x, yaw in ((10.0, 20.0), (-8.0, -105.0), (30.0, 177.0))
    ]
    vehicles = {number: listed(pose, [2.0, 1.0, 0.75], opposite_tilt) for number, pose in enumerate(upright)}
    objects = parse_cooperscene({"lidar_pose": world_SE3_lidar.tolist(), "vehicles": vehicles}).objects
    up = objects.world_corners[:, 4] - objects.world_corners[:, 0]
    np.testing.assert_allclose(up, np.tile(1.5 * world_SE3_lidar[:3, 2], (3, 1)), atol=1e-6)
    np.testing.assert_allclose(objects.world_corners.mean(axis=1), [pose[:3, 3] for pose in upright], atol=1e-9)


def test_a_pose_of_six_numbers_is_read_as_in_opv2v() -> None:
    pose = pose_to_SE3([3.0, 4.0, 2.7, -0.5, 64.6, 7.6])
    values = {"lidar_pose": SE3_to_pose(pose).tolist(), "vehicles": {}}
    metadata = parse_cooperscene(values)
    np.testing.assert_allclose(metadata.world_SE3_lidar, pose, atol=1e-9)
    assert metadata.labelled and metadata.objects.ids.tolist() == ObjectLabels.empty().ids.tolist()
