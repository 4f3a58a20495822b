"""The reader of OPV2V: the agents and their order, the files that are read, and the errors of a damaged folder."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from heal.datasets.dataset import DatasetError, UnknownAgentError
from heal.datasets.open import open_dataset
from heal.datasets.opv2v.index import agent_order
from heal.datasets.opv2v.metadata import parse_metadata
from heal.datasets.opv2v.source import Opv2vSource
from heal.datasets.pcd import write_pcd
from heal.datasets.split_names import NoSplitError
from heal.types import SensorChoice, load_scene
from tests.datasets.opv2v.opv2v_tree import metadata, vehicle, write_frame, write_tree


def test_roadside_unit_first_by_name_goes_to_the_end() -> None:
    assert agent_order(["650", "1045", "641"]) == ["1045", "641", "650"]
    assert agent_order(["1045", "-1", "1054"]) == ["1045", "1054", "-1"]
    assert agent_order(["-2", "1045", "-1"]) == ["1045", "-1", "-2"]
    assert agent_order(["-1"]) == ["-1"]


def test_scenes_are_the_frames_of_the_ego(tmp_path: Path) -> None:
    source = Opv2vSource(write_tree(tmp_path, ("650", "-1", "641")), "test")
    assert len(source) == 2
    outline = source.outline(1)
    assert (outline.scene_id, outline.ego_id, outline.agent_ids) == ("scenario_a/000070", "641", ("641", "650", "-1"))
    assert source.outline(1).timestamp_ns - source.outline(0).timestamp_ns == 100_000_000
    kinds = [source.agent_frame(0, agent_id).kind for agent_id in outline.agent_ids]
    assert kinds == ["vehicle", "vehicle", "roadside"]


def test_ego_can_be_chosen_and_agents_limited(tmp_path: Path) -> None:
    root = write_tree(tmp_path, ("641", "650", "659"))
    source = Opv2vSource(root, "test", ego_id="659", max_agents=2)
    assert source.outline(0).agent_ids == ("659", "641")
    assert source.outline(0).ego_id == "659"
    assert ("scenario_a/650", "beyond the number of agents to use") in source.summary.skipped
    with pytest.raises(DatasetError, match="unknown agent '7' wanted as ego; there are 641, 650, 659"):
        Opv2vSource(root, "test", ego_id="7")


def test_objects_are_united_by_id(tmp_path: Path) -> None:
    source = Opv2vSource(write_tree(tmp_path), "test")
    scene = load_scene(source, 0)
    assert scene.objects.ids.tolist() == [300, 301, 302]
    assert scene.frame("650").objects.ids.tolist() == [301, 302]
    np.testing.assert_allclose(scene.objects.world_corners.mean(axis=1), [[0, 6, 0.75], [10, 6, 0.75], [20, 6, 0.75]], atol=1e-9)
    np.testing.assert_allclose(scene.objects.world_corners[0, 0], [2, 5, 0], atol=1e-9)  # front, smaller y, bottom


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    frame = Opv2vSource(root, "test", {"lidar"}).agent_frame(0, "650")
    assert frame.lidar is not None and frame.lidar.points.shape == (3, 4) and frame.cameras == ()
    assert frame.lidar.beams == 64
    for path in root.rglob("*.pcd"):
        path.unlink()
    frame = Opv2vSource(root, "test", set()).agent_frame(0, "650")
    assert frame.lidar is None and frame.cameras == () and len(frame.objects) == 2


def test_camera_looks_ahead_from_where_it_sits(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    write_frame(root / "test" / "scenario_a" / "641", "000068", metadata(5.0, 7.0, yaw_deg=30.0))
    camera = Opv2vSource(root, "test", {"camera"}).agent_frame(0, "641").cameras[0]
    np.testing.assert_allclose(camera.agent_SE3_camera[:3, 3], [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(camera.agent_SE3_camera[:3, 2], [1, 0, 0], atol=1e-9)  # the optical axis is forward
    np.testing.assert_allclose(camera.agent_SE3_camera[:3, 0], [0, 1, 0], atol=1e-9)  # image right is +y in these left-handed axes
    np.testing.assert_allclose(camera.agent_SE3_camera[:3, 1], [0, 0, -1], atol=1e-9)  # image down is down
    assert camera.image.shape == (6, 8, 3) and camera.image[0, 0].tolist() == [255, 128, 0]
    assert camera.intrinsic[0, 2] == 400.0 and camera.depth_m is None


def test_depth_and_thinned_clouds_come_from_the_second_tree(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    with pytest.raises(DatasetError, match="OPV2V_Hetero: no such folder"):
        Opv2vSource(root, "test", {"depth"})
    write_hetero(tmp_path / "OPV2V_Hetero" / "test" / "scenario_a")
    with pytest.raises(ValueError, match="beams: expected one of"):
        Opv2vSource(root, "test", beams=40)
    source = Opv2vSource(root, "test", {"lidar"}, beams=16)
    first = source.agent_frame(0, "641")
    second = source.agent_frame(0, "650", SensorChoice(beams=32, cameras=True, depth=True))
    assert first.cameras == ()
    assert first.lidar is not None and second.lidar is not None
    assert (first.lidar.beams, len(first.lidar.points)) == (16, 1)
    assert (second.lidar.beams, len(second.lidar.points)) == (32, 2)
    depth = second.cameras[0].depth_m
    assert depth is not None and depth[0, 0] == 42.0 and depth.dtype == np.float32
    elsewhere = (tmp_path / "OPV2V_Hetero").rename(tmp_path / "elsewhere")
    assert Opv2vSource(root, "test", {"depth"}, hetero_root=elsewhere).agent_frame(0, "650").cameras[0].depth_m is not None


def write_map(path: Path, ahead_m: float, aside_m: float) -> None:
    """Write a visibility map with one marked pixel, given in metres from the agent."""
    pixels = np.zeros((256, 256), np.uint8)
    pixels[127 - int(ahead_m / 0.39), 127 + int(aside_m / 0.39)] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("folder", ["additional/test", "test"])
def test_cameras_label_what_their_map_marks(tmp_path: Path, folder: str) -> None:
    root = write_tree(tmp_path)
    place = root / folder / "scenario_a" / "650"
    write_map(place / "000068_bev_visibility.png", 10.0, 6.0)  # the second of the two vehicles at 0 and 10 m ahead
    source, choice = Opv2vSource(root, "test"), SensorChoice(lidar=False, labels="camera")
    assert source.agent_frame(0, "650", choice).objects.ids.tolist() == [302]
    assert source.agent_frame(0, "650").objects.ids.tolist() == [301, 302]
    with pytest.raises(DatasetError, match=r"000070_bev_visibility\.png: no such file"):
        source.agent_frame(1, "650", choice)


def test_without_maps_cameras_label_what_is_near(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    write_frame(root / "test/scenario_a/641", "000068", metadata(vehicles={1: vehicle(42.9, 0.0), 2: vehicle(43.1, 0.0)}))
    frame = Opv2vSource(root, "test").agent_frame(0, "641", SensorChoice(lidar=False, labels="camera"))
    assert frame.objects.ids.tolist() == [1]  # a vehicle is 4 m long, and all of it must be within 45 m


def test_agents_beyond_the_limit_are_known(tmp_path: Path) -> None:
    source = Opv2vSource(write_tree(tmp_path, ("-1", "641", "650")), "test", max_agents=2)
    assert source.scenario_agents == {"scenario_a": ("641", "650", "-1")}


def write_hetero(scenario: Path) -> None:
    for agent_id in ("641", "650"):
        folder = scenario / agent_id
        folder.mkdir(parents=True)
        write_pcd(folder / "000068_16.pcd", np.ones((1, 4), np.float32))
        write_pcd(folder / "000068_32.pcd", np.ones((2, 4), np.float32))
        Image.fromarray(np.full((6, 8), 42, np.uint8)).save(folder / "000068_depth0.png")


def test_json_beside_the_yaml_is_preferred(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    values = metadata(3.0, vehicles={7: vehicle(1.0, 1.0)})
    (root / "test" / "scenario_a" / "641" / "000068.json").write_text(json.dumps(values))
    frame = Opv2vSource(root, "test").agent_frame(0, "641")
    assert frame.world_SE3_agent[0, 3] == 3.0 and frame.objects.ids.tolist() == [7]


def test_rewritten_metadata_are_read_again(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    source = Opv2vSource(root, "test")
    assert source.outline(0).world_SE3_ego[0, 3] == 0.0
    path = root / "test" / "scenario_a" / "641" / "000068.yaml"
    path.write_text(yaml.safe_dump(metadata(4.0)))
    os.utime(path, ns=(1, 1))
    assert source.outline(0).world_SE3_ego[0, 3] == 4.0


def test_source_survives_pickling(tmp_path: Path) -> None:
    source = Opv2vSource(write_tree(tmp_path), "test")
    before = source.agent_frame(1, "650")
    after = pickle.loads(pickle.dumps(source)).agent_frame(1, "650")
    np.testing.assert_array_equal(after.lidar.points, before.lidar.points)
    np.testing.assert_array_equal(after.world_SE3_agent, before.world_SE3_agent)


def test_what_does_not_fit_is_skipped_and_told(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    scenario = root / "test" / "scenario_a"
    (scenario / "650" / "000070.yaml").unlink()
    (scenario / "650" / "000070_additional.yaml").write_text("")
    (scenario / "notes").mkdir()
    (scenario / "659").mkdir()
    (scenario / "data_protocol.yaml").write_text("RSU: false")
    (root / "test" / "empty_scenario").mkdir()
    source = Opv2vSource(root, "test")
    assert [source.outline(i).agent_ids for i in range(2)] == [("641", "650"), ("641",)]
    text = str(source.summary)
    for expected in (
        "2 frames in 1 scenarios, 2 agents",
        "scenario_a/notes: not an agent",
        "scenario_a/659: no metadata",
        "scenario_a/650: 1 frames that agent 650 lacks, from 000070",
        "empty_scenario: no agent",
    ):
        assert expected in text


def test_the_broken_frame_of_the_release_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "2021_08_20_21_10_24" / "641"
    write_frame(folder, "000265", metadata())
    write_frame(folder, "000267", metadata())
    source = Opv2vSource(tmp_path, "test")
    assert [source.outline(i).scene_id for i in range(len(source))] == ["2021_08_20_21_10_24/000267"]
    assert source.summary.skipped == (("2021_08_20_21_10_24/641/000265", "known to be broken"),)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def edit(**changes: Any) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        values = yaml.safe_load(path.read_text())
        values.update(changes)
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value != "gone"}))

    return apply


@pytest.mark.parametrize(
    ("name", "damage", "cause"),
    [
        ("000068.pcd", Path.unlink, "no such file"),
        ("000068.pcd", cut, "truncated"),
        ("000068_camera0.png", Path.unlink, "no such file"),
        ("000068_camera0.png", halve, "image file"),
        ("000068_camera0.png", lambda path: path.write_bytes(b"no image"), "cannot identify image"),
        ("000068.yaml", Path.unlink, "no such file"),
        ("000068.yaml", lambda path: path.write_text("a: [1, 2"), "not valid YAML"),
        ("000068.yaml", lambda path: path.write_text("just words"), "expected a mapping"),
        ("000068.yaml", edit(lidar_pose="gone"), "no entry 'lidar_pose'"),
        ("000068.yaml", edit(lidar_pose=[1.0, 2.0]), "lidar_pose: expected 6 finite numbers"),
        (
            "000068.yaml",
            edit(camera0={"cords": [0] * 6, "intrinsic": [[1, 0], [0, 1]]}),
            "camera0: intrinsic: expected an array of shape",
        ),
        ("000068.yaml", edit(vehicles={5: {"location": [0, 0, 0]}}), "no entry 'center'"),
        ("000068.yaml", edit(vehicles={5: vehicle(float("nan"), 0.0)}), "object 5: location: expected 3 finite numbers"),
    ],
)
def test_a_damaged_file_is_named_with_the_cause(tmp_path: Path, name: str, damage: Callable[[Path], Any], cause: str) -> None:
    root = write_tree(tmp_path)
    source = Opv2vSource(root, "test", {"lidar", "camera"})
    damage(root / "test" / "scenario_a" / "650" / name)
    with pytest.raises(DatasetError, match=cause) as raised:
        source.agent_frame(0, "650")
    assert raised.value.path.name == name


def test_an_unknown_agent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownAgentError, match="scenario_a: no agent '9' at 000068, there are 641, 650"):
        Opv2vSource(write_tree(tmp_path), "test").agent_frame(0, "9")


def test_a_missing_or_empty_split_names_those_there_are(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    with pytest.raises(NoSplitError, match=r"train: no such split; .* holds test"):
        Opv2vSource(root, "train")
    (root / "validate").mkdir()
    with pytest.raises(DatasetError, match="validate: no frame here"):
        Opv2vSource(root, "val")


def test_layout_is_recognised_from_the_folder_above_too(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    assert len(open_dataset(root, "test")) == len(open_dataset(tmp_path, "test")) == 2
    assert open_dataset(tmp_path, "test").summary.layout == "OPV2V"
    (tmp_path / "other").mkdir()
    with pytest.raises(DatasetError, match="neither OPV2V's layout"):
        open_dataset(tmp_path / "other", "test")
    with pytest.raises(DatasetError, match="no such folder"):
        open_dataset(tmp_path / "nowhere", "test")


def test_a_self_declared_roadside_unit_is_one() -> None:
    assert parse_metadata({**metadata(), "RSU": True}).roadside
    assert not parse_metadata({**metadata(), "RSU": False}).roadside
