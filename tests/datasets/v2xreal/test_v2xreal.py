"""The reader of V2X-Real: what was written from the town is read back, its cameras, its classes and its four collaborations."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from heal.datasets.dataset import DatasetError
from heal.datasets.open import open_dataset
from heal.datasets.opv2v import label_check
from heal.errors import UserError
from heal.types import SensorChoice
from tests.datasets.dair.dair_tree import write_tree as write_dair
from tests.datasets.road_scenes import assert_as_sensed
from tests.datasets.v2xreal.v2xreal_tree import EXTRINSIC, RECORDING, v2xreal_frames, write_v2xreal

BYTE_STEP = 1e-6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v2xreal(tmp_path_factory.mktemp("v2xreal"), v2xreal_frames())


def test_scenes_are_those_that_were_written(root: Path) -> None:
    source = open_dataset(root, "test")
    assert source.summary.layout == "V2X-Real"
    assert_as_sensed(source, v2xreal_frames(), BYTE_STEP)
    assert source.outline(0).agent_ids == ("1", "2", "-1")
    assert [source.agent_frame(0, agent_id).kind for agent_id in ("1", "2", "-1")] == ["vehicle", "vehicle", "roadside"]
    assert source.outline(1).timestamp_ns - source.outline(0).timestamp_ns == 100_000_000


def test_clouds_without_laser_lines_are_read_too(tmp_path: Path) -> None:
    frames = v2xreal_frames()
    assert_as_sensed(open_dataset(write_v2xreal(tmp_path, frames, rings=False), "test"), frames, BYTE_STEP)


def test_cameras_lie_where_they_are_calibrated_to_the_lidar(root: Path) -> None:
    source = open_dataset(root, "test")
    frame = source.agent_frame(0, "1", SensorChoice(lidar=False, cameras=True))
    assert [view.name for view in frame.cameras] == ["cam1", "cam2", "cam3", "cam4"]
    np.testing.assert_allclose(frame.cameras[0].agent_SE3_camera, EXTRINSIC)
    assert [int(view.image.mean()) for view in frame.cameras] == [50, 100, 150, 200]
    assert len(source.agent_frame(0, "-1", SensorChoice(lidar=False, cameras=True)).cameras) == 2


def test_other_classes_are_left_out_by_name_and_no_file_is_parsed_for_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_check, "read_metadata", lambda *_: pytest.fail("a file was parsed"))
    assert "labels left out: 4 Pedestrian, 2 ScooterRider, 2 TrashCan" in str(open_dataset(root, "test").summary)


@pytest.mark.parametrize(
    ("collaboration", "agents"), [("vc", ("1", "2", "-1")), ("ic", ("-1", "1", "2")), ("v2v", ("1", "2")), ("i2i", ("-1",))]
)
def test_a_collaboration_chooses_the_ego_and_its_partners(root: Path, collaboration: str, agents: tuple[str, ...]) -> None:
    source = open_dataset(root, f"test:{collaboration}")
    outline = source.outline(0)
    assert (outline.agent_ids, outline.ego_id) == (agents, agents[0])
    np.testing.assert_allclose(outline.world_SE3_ego, v2xreal_frames()[agents[0]][0].pose, atol=1e-9)
    assert outline.roadside_ego == (collaboration in ("ic", "i2i"))
    assert f"collaboration {collaboration}" in str(source.summary)
    seen = {each.object_id for agent_id in agents for each in v2xreal_frames()[agent_id][0].objects}
    assert set(source.scene_objects(0).ids.tolist()) == seen
    assert set(source.scenario_agents[RECORDING]) == {"1", "2", "-1"}


def test_a_recording_without_an_ego_of_the_kind_is_left_out(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    other = tmp_path / "test" / "2023-03-17-16-00-00_2_0"
    shutil.copytree(tmp_path / "test" / RECORDING, other)
    shutil.rmtree(other / "-1")
    source = open_dataset(tmp_path, "test:ic")
    assert len(source) == 2
    assert (other.name, "no roadside unit to be the ego of the collaboration ic") in source.summary.skipped
    shutil.rmtree(tmp_path / "test" / RECORDING)
    with pytest.raises(DatasetError, match="no roadside unit to be the ego of the collaboration ic"):
        open_dataset(tmp_path, "test:ic")


def test_dair_has_the_collaborations_of_a_vehicle_and_a_roadside_unit(tmp_path: Path) -> None:
    root = write_dair(tmp_path)
    assert open_dataset(root, "val:ic").outline(0).agent_ids == ("roadside", "vehicle")
    assert open_dataset(root, "val:vc").outline(0).agent_ids == ("vehicle", "roadside")
    with pytest.raises(
        DatasetError, match="collaboration v2v: DAIR-V2X-C has one vehicle and one roadside unit; expected vc or ic"
    ):
        open_dataset(root, "val:v2v")
    with pytest.raises(UserError, match="expected one of the collaborations vc, ic, v2v, i2i after the colon, got 'v2x'"):
        open_dataset(root, "val:v2x")
