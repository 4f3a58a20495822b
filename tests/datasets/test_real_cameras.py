"""DAIR-V2X-C's images and clouds agree: LiDAR points on a labelled vehicle lie in the vehicle's box in the image."""

from __future__ import annotations

import json

import numpy as np
import pytest

from heal.datasets.dair.source import SIDE_FOLDERS, DairSource
from heal.detection.points import points_in_boxes
from heal.se3 import inverse_SE3, transform_points
from heal.types import CameraView, Float64, SensorChoice
from tests.real_data import real_data

pytestmark = pytest.mark.real
IMAGE_PX = (1920, 1080)


def project(camera: CameraView, points: Float64) -> tuple[Float64, Float64]:
    """Project points (..., 3) in the agent's frame to pixels (..., 2) and distances along the optical axis (...)."""
    seen = transform_points(inverse_SE3(camera.agent_SE3_camera), points)
    pixels = seen @ camera.intrinsic.T
    return pixels[..., :2] / pixels[..., 2:], seen[..., 2]


def image_boxes(source: DairSource, index: int, agent_id: str) -> Float64:
    """Read the boxes (N, 4) in the image of all vehicles with a size, in the order of the labels."""
    pair = source._pairs[index]
    side = pair.vehicle if agent_id == "vehicle" else pair.roadside
    entries = json.loads((source.folder / SIDE_FOLDERS[agent_id] / side.label).read_text())
    kept = [
        entry["2d_box"]
        for entry in entries
        if entry["type"].lower() in ("car", "van", "truck", "bus") and min(map(float, entry["3d_dimensions"].values())) > 0
    ]
    return np.array([[float(box[key]) for key in ("xmin", "ymin", "xmax", "ymax")] for box in kept])


@pytest.mark.parametrize("index", [0, 12])
@pytest.mark.parametrize("agent_id", ["vehicle", "roadside"])
def test_points_on_a_vehicle_lie_in_its_box_in_the_image(agent_id: str, index: int) -> None:
    source = DairSource(real_data("dair_v2x_example"), "train")
    frame = source.agent_frame(index, agent_id, SensorChoice(cameras=True))
    camera, boxes = frame.cameras[0], image_boxes(source, index, agent_id)
    assert frame.lidar is not None and len(boxes) == len(frame.objects)
    points = frame.lidar.points[:, :3].astype(np.float64)
    pixels, depth = project(camera, points)
    shown = (depth > 1) & ((pixels > 0) & (pixels < IMAGE_PX)).all(axis=1)
    assert 15_000 < shown.sum() < 0.6 * len(points)  # a large part of the cloud, but not the whole cloud
    corners = transform_points(inverse_SE3(frame.world_SE3_agent), frame.objects.world_corners)
    inside = total = 0
    for box, place in zip(boxes, corners, strict=True):
        in_image = ((pixels >= box[:2] - 8) & (pixels <= box[2:] + 8)).all(axis=1) & shown
        total += points_in_boxes(points[shown], place[None], margin_m=0.0)[0]
        inside += points_in_boxes(points[in_image], place[None], margin_m=0.0)[0]
    assert total > 500 and inside > 0.85 * total


@pytest.mark.parametrize("agent_id", ["vehicle", "roadside"])
def test_boxes_of_labelled_vehicles_cover_their_boxes_in_the_image(agent_id: str) -> None:
    source = DairSource(real_data("dair_v2x_example"), "train")
    frame = source.agent_frame(0, agent_id, SensorChoice(lidar=False, cameras=True, labels="camera"))
    corners = transform_points(inverse_SE3(frame.world_SE3_agent), frame.objects.world_corners)
    pixels, depth = project(frame.cameras[0], corners)
    assert (depth > 1).all()  # the example's labels are those of the front camera
    hull = np.concatenate([pixels.min(axis=1).clip(0, IMAGE_PX), pixels.max(axis=1).clip(0, IMAGE_PX)], axis=1)
    boxes = image_boxes(source, 0, agent_id)
    middle = np.abs(hull[:, :2] + hull[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2
    assert (np.median(middle, axis=0) < (15, 15)).all()
    ratio = (hull[:, 2:] - hull[:, :2]) / (boxes[:, 2:] - boxes[:, :2])
    np.testing.assert_allclose(np.median(ratio, axis=0), 1.0, atol=0.3)
