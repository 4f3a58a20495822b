"""Scenes in a left-handed world, as in CARLA and OPV2V, and their mirror images in ROS's right-handed axes (REP 103)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from heal.types import AgentFrame, Float64, LidarScan, ObjectLabels, Scene

_SIGNS = np.array([1.0, -1.0, 1.0, 1.0])
# A mirrored box has its right side where its left side was.
_CORNERS = [1, 0, 3, 2, 5, 4, 7, 6]


def is_left_handed(scene: Scene) -> bool | None:
    """Whether a scene's world is left-handed, as its cameras tell; None if no agent has a camera."""
    views = [view for frame in scene.frames for view in frame.cameras]
    return bool(np.linalg.det(views[0].agent_SE3_camera[:3, :3]) < 0) if views else None


def mirrored(scene: Scene) -> Scene:
    """Return a scene with its y axis turned round, in every frame; images stay. Twice mirrored it is the same to the last bit."""
    outline = replace(scene.outline, world_SE3_ego=_mirrored_pose(scene.outline.world_SE3_ego))
    return Scene(outline, tuple(_mirrored_frame(frame) for frame in scene.frames), _mirrored_objects(scene.objects))


def _mirrored_frame(frame: AgentFrame) -> AgentFrame:
    lidar = frame.lidar and LidarScan(frame.lidar.points * np.array(_SIGNS, np.float32), frame.lidar.beams)
    views = tuple(replace(view, agent_SE3_camera=_SIGNS[:, None] * view.agent_SE3_camera) for view in frame.cameras)
    return replace(
        frame,
        world_SE3_agent=_mirrored_pose(frame.world_SE3_agent),
        world_SE3_agent_measured=_mirrored_pose(frame.world_SE3_agent_measured),
        lidar=lidar,
        cameras=views,
        objects=_mirrored_objects(frame.objects),
    )


def _mirrored_pose(a_SE3_b: Float64) -> Float64:
    mirrored: Float64 = _SIGNS[:, None] * a_SE3_b * _SIGNS
    return mirrored


def _mirrored_objects(objects: ObjectLabels) -> ObjectLabels:
    return replace(objects, world_corners=objects.world_corners[:, _CORNERS] * _SIGNS[:3])
