"""Camera views for tests."""

import numpy as np

from heal.types import AgentFrame, CameraView

# Rotation from a camera's axes (x right, y down, z forward) to an agent's axes (x forward, y left, z up).
LOOKING_AHEAD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def camera_view(
    name: str = "camera0",
    image_px: tuple[int, int] = (60, 80),
    yaw_deg: float = 0.0,
    position_m: tuple[float, float, float] = (0.0, 0.0, 0.0),
    depth_m: float | None = None,
    focal_px: float = 40.0,
) -> CameraView:
    """Return a view along the agent's x axis, turned left by `yaw_deg`: an image of noise, and optionally a constant depth."""
    height, width = image_px
    yaw = np.radians(yaw_deg)
    rotation = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation @ LOOKING_AHEAD, position_m
    image = np.random.default_rng(len(name)).integers(0, 255, (height, width, 3), dtype=np.uint8)
    intrinsic = np.array([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])
    return CameraView(name, image, intrinsic, pose, None if depth_m is None else np.full(image_px, depth_m, np.float32))


def camera_frame(*views: CameraView, agent_id: str = "1") -> AgentFrame:
    """Return the frame of an agent at the world's origin that has these cameras and no other sensor."""
    return AgentFrame(agent_id, "vehicle", 0, np.eye(4), np.eye(4), None, views)
