"""The augmentation of a single agent's points and boxes equals the reference's with the same draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from heal.detection.boxes import boxes_to_corners
from heal.detection.ground_truth import objects_in_frame
from heal.se3 import pose_to_SE3, transform_points
from heal.training.augment import mirror_frame, move_frame, rescale_frame
from heal.types import AgentFrame, LidarScan, ObjectLabels
from tests.golden.data_checks import EVERYWHERE, same_boxes
from tests.golden.fixture import Fixture

Array = npt.NDArray[Any]
WORLD_SE3_AGENT = pose_to_SE3([30.0, -20.0, 1.9, 0.5, 70.0, -0.4])


def check_lidar_augmentation(fixture: Fixture) -> None:
    for number, seed in enumerate(fixture.config["np_seed"]):
        mask = fixture.input(f"s{number}/mask") > 0
        frame = agent_frame(fixture.input(f"s{number}/points"), fixture.input(f"s{number}/boxes")[mask])
        random = np.random.RandomState(seed)
        for step in fixture.config["augment"]:
            frame = STEPS[step["NAME"]](frame, step, random)
        assert frame.lidar is not None
        np.testing.assert_allclose(frame.lidar.points, fixture.expected(f"s{number}/points"), rtol=1e-5, atol=1e-5)
        found = objects_in_frame(frame.objects, frame.world_SE3_agent, EVERYWHERE)
        same_boxes(found, np.arange(mask.sum()), fixture.expected(f"s{number}/boxes")[mask])


def agent_frame(points: Array, boxes: Array) -> AgentFrame:
    """Return the frame of an agent, somewhere in the world, with these points and labelled boxes."""
    corners = boxes_to_corners(torch.from_numpy(boxes)).numpy()
    objects = ObjectLabels(np.arange(len(boxes)), transform_points(WORLD_SE3_AGENT, corners))
    return AgentFrame("1", "vehicle", 0, WORLD_SE3_AGENT, WORLD_SE3_AGENT, LidarScan(points), (), objects)


def flipped(frame: AgentFrame, step: dict[str, Any], random: np.random.RandomState) -> AgentFrame:
    """Mirror the frame; the reference names the axis along which the mirror lies."""
    for axis in step["ALONG_AXIS_LIST"]:
        if random.choice([False, True], replace=False, p=[0.5, 0.5]):
            frame = mirror_frame(frame, "y" if axis == "x" else "x")
    return frame


def turned(frame: AgentFrame, step: dict[str, Any], random: np.random.RandomState) -> AgentFrame:
    """Turn the agent's frame opposite to the recorded turn of the points."""
    angle = random.uniform(*step["WORLD_ROT_ANGLE"])
    return move_frame(frame, pose_to_SE3([0, 0, 0, 0, -np.degrees(angle), 0]))


def scaled(frame: AgentFrame, step: dict[str, Any], random: np.random.RandomState) -> AgentFrame:
    return rescale_frame(frame, random.uniform(*step["WORLD_SCALE_RANGE"]))


STEPS = {"random_world_flip": flipped, "random_world_rotation": turned, "random_world_scaling": scaled}
