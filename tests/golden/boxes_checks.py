"""Boxes, overlaps, anchors, targets, losses, decoding and AP give what the reference recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heal.detection.anchors import AnchorConfig, spread_anchors
from heal.detection.boxes import (
    bottom_rectangles,
    boxes_to_corners,
    corners_to_boxes,
    corners_within_extent,
    corners_within_heights,
    corners_within_range,
    planar_hulls,
    transform_corners,
)
from heal.detection.decode import DecodeConfig, decode_boxes, decode_candidates, select_boxes
from heal.detection.detections import Detections, GroundTruth
from heal.detection.head import HeadOutput
from heal.detection.loss import DetectionLoss, LossConfig, depth_loss, detection_loss, occupancy_loss
from heal.detection.metrics import ApAccumulator, match_frame
from heal.detection.rotated_iou import nms_rotated, rotated_iou
from heal.detection.targets import AnchorTargets, TargetConfig, assign_targets
from heal.encoders.lidar import points_on_own_vehicle, points_within_range, transform_scan
from heal.fusion.late import AgentBoxes, join_boxes
from tests.golden.fixture import Fixture
from tests.heal.detection.hulls import hull_iou

# The reference's limits on predicted boxes, with which its fixtures were recorded.
REFERENCE_EXTENT_M, REFERENCE_Z_M = 6.0, (-3.0, 1.0)


def columns(order: str) -> list[int]:
    """Return the columns of our boxes in an order such as "lwh"."""
    return [0, 1, 2, *("hwl".index(letter) + 3 for letter in order), 6]


def inputs(fixture: Fixture, prefix: str) -> dict[str, Tensor]:
    return {name: fixture.tensor(f"{prefix}{name}") for name in fixture.names(f"in/{prefix}")}


def groups(fixture: Fixture, prefix: str) -> list[str]:
    """Return the first parts of the names below a prefix: the agents or frames of the fixture."""
    return sorted({name.split("/")[0] for name in fixture.names(prefix)})


def recorded(fixture: Fixture, name: str) -> Tensor:
    return torch.from_numpy(fixture.expected(name))


def close(actual: Tensor, expected: Tensor, rtol: float, atol: float) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), rtol=rtol, atol=atol)


def recorded_anchors(post: dict[str, Any]) -> Tensor:
    args = post["anchor_args"]
    stride = args["feature_stride"]
    size = AnchorConfig(length_m=args["l"], width_m=args["w"], height_m=args["h"], yaws_deg=tuple(args["r"]))
    return spread_anchors(args["cav_lidar_range"], (args["H"] // stride, args["W"] // stride), size, args["vw"])


def recorded_targets(fixture: Fixture, name: str) -> AnchorTargets:
    label = inputs(fixture, f"{name}/")
    return AnchorTargets(label["pos_equal_one"] > 0, label["neg_equal_one"] > 0, label["targets"])


def recorded_head(fixture: Fixture, name: str) -> HeadOutput:
    output = inputs(fixture, f"{name}/")
    return HeadOutput(output["cls_preds"], output["reg_preds"], output["dir_preds"])


def check_boxes(fixture: Fixture) -> None:
    range_m = fixture.config["range"]
    local = boxes_to_corners(fixture.tensor("boxes_hwl").float())
    projected = transform_corners(fixture.tensor("T").float(), local)
    fitted = corners_to_boxes(projected, compat_heal=True)
    for actual, name in (
        (local, "corners_from_hwl"),
        (local, "corners_from_lwh"),
        (projected, "projected_corners"),
        (fitted, "center_from_corners_hwl"),
        (fitted[:, columns("lwh")], "center_from_corners_lwh"),
        (planar_hulls(local), "standup_xyxy"),
        (planar_hulls(projected), "standup_torch"),
    ):
        close(actual, recorded(fixture, name), rtol=1e-5, atol=1e-4)
    yaw = corners_to_boxes(projected)[:, 6]  # our fit, which differs only in means of angles on both sides of +-pi
    close(yaw[yaw.abs() < 3.1], recorded(fixture, "center_from_corners_hwl")[:, 6][yaw.abs() < 3.1], rtol=1e-5, atol=1e-4)
    for mask, name in (
        (corners_within_range(local, range_m), "mask_range_allcorners_xyz"),
        (corners_within_range(local, range_m, use_z=False), "mask_range_xy_only"),
        (corners_within_range(local, range_m, minimum_corners=4), "mask_range_min4"),
        (corners_within_extent(projected, REFERENCE_EXTENT_M), "keep_not_large"),
        (corners_within_heights(projected, REFERENCE_Z_M), "keep_normal_z"),
    ):
        assert torch.equal(mask, recorded(fixture, name)), name


def check_overlaps(fixture: Fixture) -> None:
    corners, scores, hulls = (fixture.tensor(name) for name in ("corners", "scores", "standup"))
    footprints = bottom_rectangles(corners)
    close(rotated_iou(footprints, footprints), recorded(fixture, "iou_rotated"), rtol=0, atol=1e-5)
    for threshold in fixture.config["thresholds"]:
        assert nms_rotated(corners, scores, threshold).tolist() == recorded(fixture, f"nms_keep_{threshold}").tolist()
    expected = recorded(fixture, "overlaps_plus1")
    close(hull_iou(hulls[: len(expected)], hulls[len(expected) :]), expected, rtol=0, atol=1e-5)


def check_points(fixture: Fixture) -> None:
    points, a_SE3_b = fixture.tensor("points").numpy(), fixture.tensor("T").numpy()
    in_range = points[points_within_range(points, fixture.config["range"])]
    assert torch.equal(torch.from_numpy(in_range), recorded(fixture, "mask_points_by_range"))
    assert torch.equal(torch.from_numpy(points[~points_on_own_vehicle(points)]), recorded(fixture, "mask_ego_points"))
    moved = torch.from_numpy(transform_scan(a_SE3_b, points))
    close(moved, recorded(fixture, "lidar_project"), rtol=1e-5, atol=1e-5)
    close(moved[:, :3], recorded(fixture, "project_points_by_matrix"), rtol=1e-5, atol=1e-5)


def check_anchors(fixture: Fixture) -> None:
    for case, post in fixture.config.items():
        close(recorded_anchors(post)[..., columns(post["order"])], recorded(fixture, case), rtol=1e-9, atol=1e-9)


def target_config(post: dict[str, Any]) -> TargetConfig:
    thresholds = post["target_args"]
    return TargetConfig(positive_iou=thresholds["pos_threshold"], negative_iou=thresholds["neg_threshold"])


def check_targets(fixture: Fixture) -> None:
    for case, post in fixture.config.items():
        config = target_config(post)
        true_boxes = fixture.tensor(f"{case}/gt_box_center")[fixture.tensor(f"{case}/mask") > 0]
        targets = assign_targets(recorded_anchors(post), true_boxes, config)
        assert torch.equal(targets.positive, recorded(fixture, f"{case}/pos_equal_one") > 0), case
        assert torch.equal(targets.negative, recorded(fixture, f"{case}/neg_equal_one") > 0), case
        close(targets.regression, recorded(fixture, f"{case}/targets"), rtol=1e-6, atol=1e-6)


def recorded_loss_config(loss: dict[str, Any]) -> LossConfig:
    pyramid = loss.get("pyramid", {"weight": (), "relative_downsample": ()})
    return LossConfig(
        classification_weight=loss["cls"]["weight"],
        regression_weight=loss["reg"]["weight"],
        direction_weight=loss["dir"]["weight"],
        depth_weight=loss["depth"]["weight"],
        occupancy_weights=tuple(pyramid["weight"]),
        positive_weight=loss["pos_cls_weight"],
        focal_alpha=loss["cls"]["alpha"],
        focal_gamma=loss["cls"]["gamma"],
        smooth_l1_sigma=loss["reg"]["sigma"],
        direction_offset_rad=loss["dir"]["args"]["dir_offset"],
        smooth_depth=loss["depth"].get("smooth_target", False),
    )


def check_detection_parts(loss: DetectionLoss, fixture: Fixture, prefix: str) -> None:
    close(loss.classification, recorded(fixture, f"{prefix}cls_loss"), rtol=1e-5, atol=0)
    close(loss.regression, recorded(fixture, f"{prefix}reg_loss"), rtol=1e-5, atol=0)
    close(loss.direction, recorded(fixture, f"{prefix}dir_loss"), rtol=1e-5, atol=0)


def depth_items(fixture: Fixture) -> dict[str, tuple[Tensor, Tensor]]:
    names = [name for name in groups(fixture, "in/outputs/") if name.startswith("depth_items_")]
    items = {name.removeprefix("depth_items_"): inputs(fixture, f"outputs/{name}/") for name in names}
    return {agent_type: (item["0"].requires_grad_(), item["1"]) for agent_type, item in items.items()}


def check_gradients(gradients: dict[str, Tensor | None], fixture: Fixture) -> None:
    for name, gradient in gradients.items():
        if name in fixture.names("out/grad/"):
            expected = recorded(fixture, f"grad/{name}")
            assert gradient is not None
            close(gradient, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


def check_loss(fixture: Fixture) -> None:
    config, anchors = recorded_loss_config(fixture.config["loss"]), recorded_anchors(fixture.config["post"])
    head, depths = recorded_head(fixture, "outputs"), depth_items(fixture)
    maps = inputs(fixture, "outputs/occ_single_list/")
    occupancy = tuple(maps[name].requires_grad_() for name in sorted(maps, key=int))
    for part in vars(head).values():
        part.requires_grad_()

    detection = detection_loss(head, recorded_targets(fixture, "label"), config, anchors)
    depth = torch.stack([depth_loss(logits, bins, config) for logits, bins in depths.values()]).sum()
    collab, single = detection.total + depth, occupancy_loss(occupancy, recorded_targets(fixture, "label_single"), config)
    (collab + single).backward()  # the two share no input

    check_detection_parts(detection, fixture, "collab_parts/")
    close(depth, recorded(fixture, "collab_parts/depth_loss"), rtol=1e-5, atol=0)
    close(collab, recorded(fixture, "collab_total"), rtol=1e-5, atol=0)
    close(single, recorded(fixture, "single_total"), rtol=1e-5, atol=0)
    check_gradients({"cls_preds": head.classification.grad, "reg_preds": head.regression.grad}, fixture)
    check_gradients({"dir_preds": head.direction.grad}, fixture)
    check_gradients({f"depth_{agent_type}": logits.grad for agent_type, (logits, _) in depths.items()}, fixture)
    check_gradients({f"occ/{level}": logits.grad for level, logits in enumerate(occupancy)}, fixture)

    scenes = len(head.classification)
    stage_2 = occupancy_loss(tuple(level[:scenes] for level in occupancy), recorded_targets(fixture, "label"), config)
    check_detection_parts(detection, fixture, "stage2_parts/")
    close(stage_2, recorded(fixture, "stage2_parts/pyramid_loss"), rtol=1e-5, atol=0)
    close(collab + stage_2, recorded(fixture, "stage2_total"), rtol=1e-5, atol=0)


def check_loss_without_pyramid(fixture: Fixture) -> None:
    config, anchors = recorded_loss_config(fixture.config["loss"]), recorded_anchors(fixture.config["post"])
    loss = detection_loss(recorded_head(fixture, "outputs"), recorded_targets(fixture, "label"), config, anchors)
    check_detection_parts(loss, fixture, "parts/")
    close(loss.total, recorded(fixture, "total"), rtol=1e-5, atol=0)


def check_decode(fixture: Fixture) -> None:
    post = fixture.config
    config = DecodeConfig(
        score_threshold=post["target_args"]["score_threshold"],
        nms_iou=post["nms_thresh"],
        direction_offset_rad=post["dir_args"]["dir_offset"],
        max_extent_m=REFERENCE_EXTENT_M,
        z_limits_m=REFERENCE_Z_M,
    )
    anchors, gt_range_m = fixture.tensor("anchors"), post["gt_range"]
    agents = sorted((name for name in groups(fixture, "in/") if fixture.names(f"in/{name}/cls_preds")), key="ego".__ne__)
    heads = [recorded_head(fixture, agent) for agent in agents]
    poses = [fixture.tensor(f"T_{agent.removeprefix('other_')}") for agent in agents]

    codes = heads[0].regression[0].permute(1, 2, 0).reshape(-1, 7)
    close(decode_boxes(codes, anchors.reshape(-1, 7).float())[None], recorded(fixture, "decoded_boxes_hwl"), rtol=1e-5, atol=1e-4)
    found_alone = [decode_candidates(head, anchors, config) for head in heads]
    alone = select_boxes(*found_alone[0], config, gt_range_m)
    boxes = [AgentBoxes(*parts, pose.double().numpy()) for parts, pose in zip(found_alone, poses, strict=True)]
    late = join_boxes(boxes, np.eye(4), config, gt_range_m)
    for found, name in ((alone, "single"), (late, "late")):
        close(found.corners, recorded(fixture, f"{name}_corners"), rtol=0, atol=1e-4)
        close(found.scores, recorded(fixture, f"{name}_scores"), rtol=0, atol=1e-6)


def recorded_frame(fixture: Fixture, frame: str) -> tuple[Detections, GroundTruth]:
    corners = fixture.tensor(f"{frame}/gt")
    ground_truth = GroundTruth(corners, torch.arange(len(corners)))
    if not fixture.names(f"in/{frame}/det"):
        return Detections.empty(), ground_truth
    return Detections.sorted(fixture.tensor(f"{frame}/det"), fixture.tensor(f"{frame}/score")), ground_truth


def check_average_precision(fixture: Fixture) -> None:
    thresholds = tuple(fixture.config["iou"])
    frames = [recorded_frame(fixture, frame) for frame in groups(fixture, "in/")]
    accumulator = ApAccumulator(thresholds)
    for detections, ground_truth in frames:
        accumulator.add(detections, ground_truth)
    matches = [match_frame(detections, ground_truth, thresholds) for detections, ground_truth in frames]
    result = accumulator.results()
    for index, curve in enumerate(result.curves):
        expected = {
            name: recorded(fixture, f"{curve.iou_threshold}/{name}") for name in fixture.names(f"out/{curve.iou_threshold}/")
        }
        flags = torch.cat([torch.from_numpy(match.true_positive[index]) for match in matches])
        assert torch.equal(flags, expected["tp"] > 0)
        assert torch.equal(~flags, expected["fp"] > 0)
        assert result.ground_truths == expected["gt"].item()
        assert curve.ap == pytest.approx(expected["ap"].item(), abs=1e-9)
        close(torch.from_numpy(curve.recall), expected["mrec"], rtol=0, atol=1e-9)
        close(torch.from_numpy(curve.precision.copy()), expected["mpre"], rtol=0, atol=1e-9)
