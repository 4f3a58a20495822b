"""Whole scenes, read from the recorded folder tree, equal the reference's: agents, poses, labels, targets."""

from __future__ import annotations

import numpy as np
import torch

from heal.datasets.opv2v.source import Opv2vSource
from heal.detection.boxes import boxes_to_corners, planar_hulls
from heal.detection.detections import GroundTruth
from heal.detection.ground_truth import ground_truth, objects_in_frame
from heal.detection.targets import TargetConfig, assign_targets
from heal.se3 import SE3_to_pose, relative_SE3
from tests.golden.boxes_checks import recorded_anchors, target_config
from tests.golden.data_checks import pairwise, same_boxes
from tests.golden.fixture import Fixture
from tests.golden.recorded_scenes import Array, RecordedScene, recorded_scenes, scene_of
from tests.heal.detection.hulls import hull_iou


def check_agents_of_scenes(fixture: Fixture) -> None:
    source = Opv2vSource(fixture.path.parent / "mini_tree" / "OPV2V", "test")
    assert {description["len"] for description in fixture.meta["runs"].values()} == {len(source)}
    for recorded in recorded_scenes(fixture, fused=True):
        scene, types = scene_of(recorded)
        assert list(scene.outline.agent_ids) == recorded.plain("ego/cav_id_list")
        listed = recorded.plain("ego/agent_modality_list")
        assert list(types.values())[: recorded.change.get("infer", len(types))] == listed
        poses = [SE3_to_pose(frame.world_SE3_agent) for frame in scene.frames]
        np.testing.assert_allclose(poses, recorded.array("ego/lidar_pose_clean"), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(poses, recorded.array("ego/lidar_pose"), rtol=1e-5, atol=1e-5)
        matrices = recorded.array("ego/pairwise_t_matrix")[0]
        np.testing.assert_allclose(pairwise(np.array(poses), len(matrices)), matrices, rtol=1e-5, atol=1e-5)
        assert recorded.array("ego/record_len").tolist() == [len(listed)]


def check_ground_truth_of_scenes(fixture: Fixture) -> None:
    range_m = fixture.config["postprocess"]["gt_range"]
    for recorded in recorded_scenes(fixture, fused=True):
        scene, _ = scene_of(recorded)
        same_boxes(ground_truth(scene, range_m), recorded.plain("ego/object_ids"), recorded.boxes("ego/"))
        for row, frame in enumerate(scene.frames[: len(recorded.plain("ego/agent_modality_list"))]):
            single = objects_in_frame(frame.objects, frame.world_SE3_agent, range_m)
            boxes = recorded.boxes("ego/", "_single", row)
            same_boxes(single, np.sort(single.ids.numpy()), by_id(single, boxes))


def by_id(found: GroundTruth, boxes: Array) -> Array:
    """Sort recorded boxes, whose order is arbitrary, by the ids of the nearest found boxes."""
    assert len(found) == len(boxes)
    distance = np.linalg.norm(found.boxes.numpy()[:, None, :3] - boxes[None, :, :3], axis=2)
    nearest = distance.argmin(axis=1)
    assert len(set(nearest)) == len(boxes)
    return boxes[nearest[np.argsort(found.ids.numpy())]]


def check_labels_of_single_agents(fixture: Fixture) -> None:
    """Check runs of single agents: each has its own labels, and its pose relative to the ego."""
    for recorded in recorded_scenes(fixture, fused=False):
        scene, types = scene_of(recorded)
        for name, frame in zip(("ego", *scene.outline.agent_ids[1:]), scene.frames, strict=True):
            assert recorded.plain(f"{name}/modality_name") == types[frame.agent_id]
            found = objects_in_frame(frame.objects, frame.world_SE3_agent, fixture.config["postprocess"]["gt_range"])
            same_boxes(found, recorded.plain(f"{name}/object_ids"), recorded.boxes(f"{name}/"))
            ego_SE3_agent = relative_SE3(scene.outline.world_SE3_ego, frame.world_SE3_agent)
            np.testing.assert_allclose(ego_SE3_agent, recorded.array(f"{name}/transformation_matrix_clean"), atol=1e-4)


def check_targets_of_scenes(fixture: Fixture) -> None:
    """Check targets, made from the recorded boxes, which the other checks compare with ours."""
    for recorded in [*recorded_scenes(fixture, fused=True), *recorded_scenes(fixture, fused=False)]:
        names = {name.split("/")[2] for name in recorded.arrays.files if name.startswith(f"{recorded.run}/{recorded.index}/")}
        for name in names:
            same_targets(recorded, f"{name}/", "label_dict", "")
        if recorded.has("ego/label_dict_single/targets_shape"):
            same_targets(recorded, "ego/", "label_dict_single", "_single")


def same_targets(recorded: RecordedScene, place: str, group: str, suffix: str) -> None:
    post = recorded.fixture.config["postprocess"]
    anchors, config = recorded_anchors(post), target_config(post)
    for row, positive in enumerate(recorded.sparse(f"{place}{group}/pos_equal_one").reshape(-1, *anchors.shape[:3])):
        boxes = recorded.boxes(f"{place}{group}/", suffix, row)
        np.testing.assert_array_equal(boxes, recorded.boxes(place, suffix, row))
        made = assign_targets(anchors, torch.from_numpy(boxes), config)
        close = close_calls(anchors, boxes, config)
        np.testing.assert_array_equal(made.positive.numpy()[~close], positive[~close] > 0)
        assert made.positive.sum() == positive.sum()
        negative = recorded.sparse(f"{place}{group}/neg_equal_one").reshape(-1, *positive.shape)[row]
        np.testing.assert_array_equal(made.negative.numpy()[~close], negative[~close] > 0)
        regression = recorded.sparse(f"{place}{group}/targets").reshape(-1, *positive.shape, 7)[row]
        same = made.positive.numpy() & (positive > 0)
        found = made.regression.numpy().reshape(regression.shape)
        np.testing.assert_allclose(found[same], regression[same], rtol=1e-5, atol=1e-5)


def close_calls(anchors: torch.Tensor, boxes: Array, config: TargetConfig) -> Array:
    """Return the anchors for which rounding decides whether they are the best anchor of a box, or above a threshold."""
    if not len(boxes):
        return np.zeros(anchors.shape[:3], bool)
    hulls = planar_hulls(boxes_to_corners(anchors.reshape(-1, 7)))
    iou = hull_iou(hulls, planar_hulls(boxes_to_corners(torch.from_numpy(boxes))))
    highest = iou.amax(dim=0)
    shared = (iou > highest - 1e-5) & ((iou > highest - 1e-5).sum(dim=0) > 1)
    near = (iou - config.positive_iou).abs().minimum((iou - config.negative_iou).abs()) < 2e-5
    close: Array = (shared | near).any(dim=1).reshape(anchors.shape[:3]).numpy()
    assert close.sum() < 0.01 * close.size
    return close
