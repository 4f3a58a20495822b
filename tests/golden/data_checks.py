"""Poses, labels, cameras and noise equal the reference's recorded values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from heal.datasets.labels import dair_objects, dair_world_objects, opv2v_objects
from heal.datasets.opv2v.metadata import parse_metadata
from heal.detection.boxes import boxes_to_corners, corners_within_range
from heal.detection.detections import GroundTruth
from heal.detection.ground_truth import merge_by_iou, objects_in_frame
from heal.detection.label_filters import visible_objects
from heal.pose_noise import PoseNoise
from heal.se3 import SE3_to_pose, pose_to_SE3, relative_SE3, transform_points
from heal.types import ObjectLabels
from tests.golden.fixture import Fixture

Array = npt.NDArray[Any]
EVERYWHERE = (-1e4, -1e4, -1e4, 1e4, 1e4, 1e4)


def same_boxes(found: GroundTruth, ids: Array | list[int], boxes: Array, atol: float = 1e-4) -> None:
    """Check that both have the same objects, in any order, each in the same place; yaws may differ by whole turns."""
    order, expected_order = np.argsort(found.ids.numpy()), np.argsort(ids)
    np.testing.assert_array_equal(found.ids.numpy()[order], np.asarray(ids)[expected_order])
    difference = found.boxes.double().numpy()[order] - boxes[expected_order]
    difference[:, 6] = np.mod(difference[:, 6] + np.pi, 2 * np.pi) - np.pi
    np.testing.assert_allclose(difference, 0.0, atol=atol)


def check_poses(fixture: Fixture) -> None:
    poses = fixture.input("poses_xyz_rollyawpitch_deg")
    transforms = [pose_to_SE3(pose) for pose in poses]
    np.testing.assert_allclose(transforms, fixture.expected("x_to_world"), rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose([SE3_to_pose(m) for m in transforms], fixture.expected("tfm_to_pose"), rtol=1e-9, atol=1e-8)
    between = [relative_SE3(transforms[b], transforms[a]) for a, b in fixture.input("pairs")]
    np.testing.assert_allclose(between, fixture.expected("x1_to_x2"), rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(transforms, fixture.expected("pose_to_tfm6_f32"), rtol=1e-5, atol=1e-4)


def check_pairwise_transforms(fixture: Fixture) -> None:
    for name in fixture.names("in/"):
        case, _, kind = name.partition("/")
        if kind == "lidar_pose":
            expected = fixture.expected(f"{case}/pairwise_t_matrix")
            np.testing.assert_allclose(pairwise(fixture.input(name), len(expected)), expected, rtol=1e-9, atol=1e-9)


def pairwise(poses: Array, slots: int) -> Array:
    """Return transforms whose element [i, j] maps i's coordinates into j's frame; identity where there is no agent."""
    transforms = [pose_to_SE3(pose) for pose in poses]
    matrix = np.tile(np.eye(4), (slots, slots, 1, 1))
    for i, world_SE3_i in enumerate(transforms):
        for j, world_SE3_j in enumerate(transforms):
            matrix[i, j] = relative_SE3(world_SE3_j, world_SE3_i)
    return matrix


def check_objects_of_opv2v(fixture: Fixture) -> None:
    config = fixture.config
    objects, pose = opv2v_objects(config["opv2v_objects"]), pose_to_SE3(config["ego_pose"])
    found = objects_in_frame(objects, pose, config["range"])
    same_boxes(found, fixture.expected("opv2v_hwl/ids"), fixture.expected("opv2v_hwl/boxes"))
    taller = objects_in_frame(objects, pose, taller_range(config["range"]))
    lwh = fixture.expected("opv2v_lwh_enlarge_z/boxes")
    same_boxes(taller, fixture.expected("opv2v_lwh_enlarge_z/ids"), lwh[:, [0, 1, 2, 5, 4, 3, 6]])
    visible = visible_objects(objects, fixture.input("visibility_map"), pose)
    ids, boxes = fixture.expected("opv2v_visible/ids"), fixture.expected("opv2v_visible/boxes")
    same_boxes(objects_in_frame(visible, pose, EVERYWHERE), ids, boxes)


def check_objects_of_dair(fixture: Fixture) -> None:
    config = fixture.config
    here, range_m = np.eye(4), taller_range(config["range"])
    single = objects_in_frame(dair_objects(config["dair_objects"], here), here, range_m)
    same_boxes(single, fixture.expected("dair_single/ids"), fixture.expected("dair_single/boxes"))
    moved = objects_in_frame(dair_objects(config["dair_objects"], fixture.input("T_ego_cav")), here, range_m)
    same_boxes(moved, fixture.expected("dair_hetero/ids"), fixture.expected("dair_hetero/boxes"))
    world = objects_in_frame(dair_world_objects(config["dair_world"]), pose_to_SE3(config["ego_pose"]), config["range"])
    same_boxes(world, fixture.expected("dair_world/ids"), fixture.expected("dair_world/boxes"))


def taller_range(range_m: list[float]) -> list[float]:
    """Return the range with a metre more at the bottom and at the top, as the reference does for labels of single agents."""
    return [*range_m[:2], range_m[2] - 1, *range_m[3:5], range_m[5] + 1]


def check_merging(fixture: Fixture) -> None:
    range_m = fixture.config["gt_range"]
    agents = dict.fromkeys(name.split("/")[0] for name in fixture.names("in/"))
    parts = [party(fixture, agent) for agent in agents]
    by_id = as_truth(ObjectLabels.union(parts))
    apart = [ObjectLabels(part.ids + 1000 * side, part.world_corners) for side, part in enumerate(parts)]
    by_iou = as_truth(merge_by_iou(apart, np.eye(4)))
    same_set(by_id.select(corners_within_range(by_id.corners, range_m)), fixture.expected("by_id_corners"))
    same_set(by_iou.select(corners_within_range(by_iou.corners, range_m, use_z=False)), fixture.expected("by_iou_corners"))


def party(fixture: Fixture, agent: str) -> ObjectLabels:
    """Return the labels of one agent, in the ego's frame."""
    boxes = fixture.input(f"{agent}/object_bbx_center")[0][fixture.input(f"{agent}/object_bbx_mask")[0] > 0]
    ego_SE3_agent = fixture.input(f"{agent}/transformation_matrix_clean").astype(np.float64)
    corners = transform_points(ego_SE3_agent, boxes_to_corners(torch.from_numpy(boxes)).numpy())
    return ObjectLabels(fixture.input(f"{agent}/object_ids"), corners.astype(np.float64))


def as_truth(objects: ObjectLabels) -> GroundTruth:
    """Return objects in the ego's frame with their corners as they are."""
    return GroundTruth(torch.from_numpy(objects.world_corners).float(), torch.from_numpy(objects.ids))


def same_set(found: GroundTruth, expected: Array) -> None:
    assert len(found) == len(expected)
    distance = np.abs(found.corners.numpy()[:, None] - expected[None]).max(axis=(2, 3))
    assert (distance.min(axis=0) < 1e-4).all() and (distance.min(axis=1) < 1e-4).all()


def check_camera_extrinsics(fixture: Fixture) -> None:
    params = dict(fixture.config["params"])
    cameras = parse_metadata({**params, "lidar_pose": params["lidar_pose_clean"]}).cameras
    assert len(cameras) == len([name for name in fixture.names("out/") if name.endswith("/intrinsic")])
    for camera in cameras:
        case = camera.name.replace("camera", "cam")
        np.testing.assert_allclose(camera.agent_SE3_camera, fixture.expected(f"{case}/camera_to_lidar"), atol=1e-4)
        np.testing.assert_allclose(camera.intrinsic, fixture.expected(f"{case}/intrinsic"), atol=1e-4)


def check_pose_noise(fixture: Fixture) -> None:
    config = fixture.config
    position_std, rotation_std, position_mean, rotation_mean = config["S_args"]
    plain = {"position_std_m": config["std"], "rotation_std_deg": config["std"]}
    biased = PoseNoise(
        position_std_m=position_std,
        rotation_std_deg=rotation_std,
        position_mean_m=position_mean,
        rotation_mean_deg=rotation_mean,
    )
    noises = {"gauss": PoseNoise(**plain), "laplace": PoseNoise(kind="laplace", **plain)}
    for name in fixture.names("out/"):
        kind, _, seed = name.partition("_seed")
        noise = biased if seed == "S" else noises[kind]
        random = np.random.RandomState(config["seedS"] if seed == "S" else int(seed))
        expected = fixture.expected(name)
        np.testing.assert_allclose([noise.draw(random) for _ in expected], expected, atol=1e-12)
