"""Whole scenes, read from the recorded folder tree, are what the reference made of it: agents, poses, labels, clouds, cameras."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.datasets.files import read_image
from heal.datasets.opv2v import Opv2vSource
from heal.detections import GroundTruth
from heal.ground_truth import ground_truth, objects_in_frame, visible_objects
from heal.se3 import SE3_to_pose, relative_SE3
from heal.types import AgentFrame, ObjectLabels, Scene, load_scene
from tests.golden.data_checks import pairwise, same_boxes
from tests.golden.fixture import Fixture

Array = npt.NDArray[Any]
# Own-vehicle box that the reference cuts out of a cloud: x from, x to, |y| to.
OWN_VEHICLE_M = (-1.95, 2.95, 1.1)


@dataclass(frozen=True)
class RecordedScene:
    """One scene of one run of the reference's data set."""

    fixture: Fixture
    prefix: str  # run, index
    run_config: dict[str, Any]

    def has(self, name: str) -> bool:
        return f"{self.prefix}/{name}" in self.fixture.arrays.files

    def array(self, name: str) -> Array:
        array: Array = self.fixture.arrays[f"{self.prefix}/{name}"]
        return array

    def words(self, name: str) -> Any:
        return json.loads(str(self.array(f"{name}#json")))

    @property
    def index(self) -> int:
        return int(self.prefix.split("/")[1])


def recorded_scenes(fixture: Fixture, fused: bool) -> Iterator[RecordedScene]:
    for run, description in fixture.meta["runs"].items():
        for index in range(description["len"]):
            recorded = RecordedScene(fixture, f"{run}/{index}", description["change"])
            if recorded.has("ego/cav_id_list#json") == fused:
                yield recorded


def open_tree(fixture: Fixture, ego_id: str | None = None, beams: dict[str, int] | None = None) -> Opv2vSource:
    root = fixture.path.parent / "mini_tree" / "OPV2V"
    return Opv2vSource(root, "test", {"lidar", "camera", "depth"}, ego_id=ego_id, beams=beams or 64)


def scene_of(recorded: RecordedScene, ego_id: str) -> Scene:
    """The same instant through our reader, with the recorded ego."""
    scene_id = open_tree(recorded.fixture).outline(recorded.index).scene_id
    source = open_tree(recorded.fixture, ego_id, beams_of(recorded, scene_id.split("/")[0]))
    index = next(i for i in range(len(source)) if source.outline(i).scene_id == scene_id)
    return load_scene(source, index)


def beams_of(recorded: RecordedScene, scenario: str) -> dict[str, int]:
    """Beams of every agent of a scenario, which follow from its type."""
    by_type = recorded.fixture.config["heter"]["lidar_channels_dict"]
    return {agent_id: by_type[kind] for agent_id, kind in assignment(recorded, scenario).items() if kind in by_type}


def assignment(recorded: RecordedScene, scenario: str) -> dict[str, str]:
    """The type of every agent of a scenario in that run."""
    name = "assignment_in_order.json" if "infer" in recorded.run_config else "assignment.json"
    types: dict[str, str] = json.loads((recorded.fixture.path.parent / "mini_tree" / name).read_text())[scenario]
    return types


def check_agents_of_scenes(fixture: Fixture) -> None:
    lengths = {description["len"] for description in fixture.meta["runs"].values()}
    assert lengths == {len(open_tree(fixture))}
    for recorded in recorded_scenes(fixture, fused=True):
        agents = recorded.words("ego/cav_id_list")
        scene = scene_of(recorded, agents[0])
        near = tuple(agent_id for agent_id in scene.outline.agent_ids if agent_id in agents)  # the others are out of radio range
        assert near == tuple(agents)
        poses = [SE3_to_pose(scene.frame(agent_id).world_SE3_agent) for agent_id in agents]
        np.testing.assert_allclose(poses, recorded.array("ego/lidar_pose_clean"), rtol=1e-5, atol=1e-5)
        matrices = recorded.array("ego/pairwise_t_matrix")[0]
        np.testing.assert_allclose(pairwise(np.array(poses), len(matrices)), matrices, rtol=1e-5, atol=1e-5)


def check_ground_truth_of_scenes(fixture: Fixture) -> None:
    for recorded in recorded_scenes(fixture, fused=True):
        agents, types = recorded.words("ego/cav_id_list"), recorded.words("ego/agent_modality_list")
        scene = scene_of(recorded, agents[0])
        by_sight = "infer" not in recorded.run_config
        seen = {agent_id: seen_by(fixture, scene, agent_id, kind, by_sight) for agent_id, kind in zip(agents, types, strict=False)}
        parts = [seen.get(agent_id, scene.frame(agent_id).objects) for agent_id in agents]
        fused = ground_truth(
            Scene(scene.outline, scene.frames, ObjectLabels.union(parts)), fixture.config["postprocess"]["gt_range"]
        )
        boxes, mask = recorded.array("ego/object_bbx_center")[0], recorded.array("ego/object_bbx_mask")[0] > 0
        same_boxes(fused, recorded.words("ego/object_ids"), boxes[mask])
        for row, agent_id in enumerate(agents[: len(types)]):
            single = objects_in_frame(
                seen[agent_id], scene.frame(agent_id).world_SE3_agent, fixture.config["postprocess"]["gt_range"]
            )
            mask = recorded.array("ego/object_bbx_mask_single")[row] > 0
            boxes = recorded.array("ego/object_bbx_center_single")[row][mask]
            same_boxes(single, np.sort(single.ids.numpy()), by_id(single, boxes))


def by_id(found: GroundTruth, boxes: Array) -> Array:
    """Recorded boxes, whose order is arbitrary, in the order of the ids of those that they lie nearest to."""
    assert len(found) == len(boxes)
    distance = np.linalg.norm(found.boxes.numpy()[:, None, :3] - boxes[None, :, :3], axis=2)
    nearest = distance.argmin(axis=1)
    assert len(set(nearest)) == len(boxes)
    return boxes[nearest[np.argsort(found.ids.numpy())]]


def seen_by(fixture: Fixture, scene: Scene, agent_id: str, kind: str, by_sight: bool) -> ObjectLabels:
    """What an agent labels: all that is listed, or for cameras what its visibility map marks."""
    frame = scene.frame(agent_id)
    if not by_sight or fixture.config["heter"]["modality_setting"][kind]["sensor_type"] == "lidar":
        return frame.objects
    scenario, stamp = scene.outline.scene_id.split("/")
    path = fixture.path.parent / "mini_tree" / "OPV2V" / "test" / scenario / agent_id / f"{stamp}_bev_visibility.png"
    return visible_objects(frame.objects, read_image(path)[..., 0], frame.world_SE3_agent)


def check_sensors_of_scenes(fixture: Fixture) -> None:
    clouds = cameras = 0
    for recorded in recorded_scenes(fixture, fused=True):
        agents, types = recorded.words("ego/cav_id_list"), recorded.words("ego/agent_modality_list")
        scene = scene_of(recorded, agents[0])
        for kind in dict.fromkeys(types):
            members = [scene.frame(agent_id) for agent_id, other in zip(agents, types, strict=False) if other == kind]
            if recorded.has(f"ego/inputs_{kind}/voxel_coords"):
                clouds += 1
                same_cloud(recorded, kind, members)
            else:
                cameras += 1
                extrinsics = [[camera.agent_SE3_camera for camera in frame.cameras] for frame in members]
                np.testing.assert_allclose(extrinsics, recorded.array(f"ego/inputs_{kind}/extrinsics"), atol=1e-4)
                intrinsics = [[camera.intrinsic for camera in frame.cameras] for frame in members]
                np.testing.assert_allclose(intrinsics, recorded.array(f"ego/inputs_{kind}/intrins"), atol=1e-3)
    assert clouds and cameras


def same_cloud(recorded: RecordedScene, kind: str, members: list[AgentFrame]) -> None:
    """Every voxel of the recorded cloud holds as many points as ours, and where none was dropped the same sum."""
    setting = recorded.fixture.config["heter"]["modality_setting"][kind]["preprocess"]
    limit = setting["args"]["max_points_per_voxel"]
    names = ("voxel_coords", "voxel_num_points", "voxel_point_sum")
    coords, numbers, sums = (recorded.array(f"ego/inputs_{kind}/{name}") for name in names)
    ours: dict[tuple[int, ...], list[Array]] = {}
    for batch, frame in enumerate(members):
        for key, point in voxels(frame, setting["cav_lidar_range"], setting["args"]["voxel_size"]):
            ours.setdefault((batch, *key), []).append(point)
    assert set(ours) == {tuple(row) for row in coords.tolist()}
    for row, number, total in zip(coords.tolist(), numbers, sums, strict=True):
        points = ours[tuple(row)]
        assert min(len(points), limit) == number
        if len(points) < limit:
            np.testing.assert_allclose(np.sum(points, axis=0), total, rtol=1e-5, atol=1e-4)


def voxels(frame: AgentFrame, range_m: list[float], size_m: list[float]) -> Iterator[tuple[tuple[int, ...], Array]]:
    """The points outside the own vehicle and inside the range, each with its voxel (z, y, x)."""
    assert frame.lidar is not None
    points = frame.lidar.points
    x_from, x_to, y_to = OWN_VEHICLE_M
    own = (points[:, 0] >= x_from) & (points[:, 0] <= x_to) & (np.abs(points[:, 1]) <= y_to)
    low, high = np.array(range_m[:3], np.float32), np.array(range_m[3:], np.float32)
    inside = (points[:, :3] >= low).all(axis=1) & (points[:, :3] < high).all(axis=1)
    for point in points[~own & inside]:
        x, y, z = np.floor((point[:3] - low) / np.array(size_m, np.float32)).astype(int).tolist()
        yield (z, y, x), point


def check_labels_of_single_agents(fixture: Fixture) -> None:
    """Runs of single agents: each with its own labels, and its pose relative to the ego.

    The reference decides once, by the ego's type, whether labels are those that cameras see, and then does so for every agent.
    """
    for recorded in recorded_scenes(fixture, fused=False):
        members = single_agents(recorded)
        scene = scene_of(recorded, members["ego"])
        kind = recorded.run_config["heter"]["ego_modality"].split("&")[0]
        for name, agent_id in members.items():
            found = objects_in_frame(
                seen_by(fixture, scene, agent_id, kind, by_sight=True),
                scene.frame(agent_id).world_SE3_agent,
                fixture.config["postprocess"]["gt_range"],
            )
            mask = recorded.array(f"{name}/object_bbx_mask")[0] > 0
            boxes = recorded.array(f"{name}/object_bbx_center")[0][mask]
            same_boxes(found, recorded.words(f"{name}/object_ids"), boxes)
            ego_SE3_agent = relative_SE3(scene.outline.world_SE3_ego, scene.frame(agent_id).world_SE3_agent)
            np.testing.assert_allclose(ego_SE3_agent, recorded.array(f"{name}/transformation_matrix_clean"), atol=1e-4)


def single_agents(recorded: RecordedScene) -> dict[str, str]:
    """The recorded names of a scene's agents, one of which is "ego", to their ids."""
    names = dict.fromkeys(name.split("/")[2] for name in recorded.fixture.arrays.files if name.startswith(f"{recorded.prefix}/"))
    outline = open_tree(recorded.fixture).outline(recorded.index)
    types = assignment(recorded, outline.scene_id.split("/")[0])
    ego_type = recorded.words("ego/modality_name")
    ego = next(agent_id for agent_id in outline.agent_ids if agent_id not in names and types[agent_id] == ego_type)
    return {name: ego if name == "ego" else name for name in names}
