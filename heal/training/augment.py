"""Augmentation of whole scenes: random changes of the world, of the agents' frames and of single points.

Agents stay consistent with each other: a change of the world or of an agent's frame changes the poses too, and labels stay in the
world frame. Images are mirrored with the world; `heal.encoders.images` varies single images further.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from heal.config import config
from heal.encoders.images import mirror_view, rescale_view
from heal.types import AgentFrame, Float32, Float64, LidarScan, ObjectLabels, Scene

_NEGATE = {"x": np.array([-1.0, 1.0, 1.0, 1.0]), "y": np.array([1.0, -1.0, 1.0, 1.0])}
# The corner order of heal.box_corners after a reflection, which exchanges the left and the right side.
_MIRRORED_CORNERS = [1, 0, 3, 2, 5, 4, 7, 6]


@config
class AugmentConfig:
    """The random variation of training scenes; the defaults vary nothing, as in the paper's stage 1.

    Attributes:
        of: which scenes are varied: "any", or "lidar" for those without camera images, as in HEAL. Encoders vary single images
            in any case.
        flip: mirror the world in y with probability one half.
        agent_yaw_deg: turn an agent's frame about its z axis by a uniform angle of plus or minus this.
        turned_share: probability that an agent's frame is turned; most vehicles drive along their street.
        scale: scale the world by a uniform factor of 1 plus or minus this.
        height_m: lift every agent's frame by a uniform height of plus or minus this.
        tilt_deg: roll and pitch every agent's frame by normal angles of this standard deviation.
        intensity: multiply intensities by a log-uniform factor up to this (1 for none) and raise them to a random power.
        intensity_blind: probability that an agent's intensities are all set to zero.
        thin_points: with probability one half, drop a random share of an agent's points, up to this share.
        jitter_m: standard deviation of normal noise on every point.
    """

    of: Literal["any", "lidar"] = "any"
    flip: bool = False
    agent_yaw_deg: float = 0.0
    turned_share: float = 1.0
    scale: float = 0.0
    height_m: float = 0.0
    tilt_deg: float = 0.0
    intensity: float = 1.0
    intensity_blind: float = 0.0
    thin_points: float = 0.0
    jitter_m: float = 0.0


def augment(scene: Scene, settings: AugmentConfig, rng: np.random.Generator) -> Scene:
    """Return a random variation of `scene`; equal generators give equal scenes."""
    if settings.of == "lidar" and any(frame.cameras for frame in scene.frames):
        return scene
    if settings.flip and rng.random() < 0.5:
        scene = mirror(scene)
    if settings.scale:
        scene = rescale(scene, rng.uniform(1 - settings.scale, 1 + settings.scale))
    return map_frames(scene, lambda frame: _vary_points(_move_frame_at_random(frame, settings, rng), settings, rng))


def mirror(scene: Scene) -> Scene:
    """Mirror a scene: negate y in the world and in every agent's frame."""
    return replace(map_frames(scene, mirror_frame), objects=_mirrored(scene.objects, _NEGATE["y"]))


def mirror_frame(frame: AgentFrame, negate: Literal["x", "y"] = "y") -> AgentFrame:
    """Mirror an agent's frame: negate y, or x, in the world and in the agent's coordinates."""
    signs = _NEGATE[negate]
    flip = np.diag(signs)
    return replace(
        frame,
        world_SE3_agent=flip @ frame.world_SE3_agent @ flip,
        world_SE3_agent_measured=flip @ frame.world_SE3_agent_measured @ flip,
        lidar=frame.lidar and replace(frame.lidar, points=frame.lidar.points * signs.astype(np.float32)),
        cameras=tuple(mirror_view(view, negate) for view in frame.cameras),
        objects=_mirrored(frame.objects, signs),
    )


def rescale(scene: Scene, factor: float) -> Scene:
    """Make the world of a scene `factor` times as large."""
    return replace(map_frames(scene, lambda frame: rescale_frame(frame, factor)), objects=_scaled(scene.objects, factor))


def rescale_frame(frame: AgentFrame, factor: float) -> AgentFrame:
    """Make the world around an agent `factor` times as large: poses, points, images and labels."""
    factors = np.array([factor, factor, factor, 1.0])
    pose_factors = np.ones((4, 4))
    pose_factors[:, 3] = factors  # only the translation
    return replace(
        frame,
        world_SE3_agent=frame.world_SE3_agent * pose_factors,
        world_SE3_agent_measured=frame.world_SE3_agent_measured * pose_factors,
        lidar=frame.lidar and replace(frame.lidar, points=frame.lidar.points * factors.astype(np.float32)),
        cameras=tuple(rescale_view(view, factor) for view in frame.cameras),
        objects=_scaled(frame.objects, factor),
    )


def move_frame(frame: AgentFrame, old_SE3_new: Float64) -> AgentFrame:
    """Move the coordinate frame of an agent: its points and poses change together, the world stays the same."""
    new_SE3_old = np.linalg.inv(old_SE3_new)
    lidar = frame.lidar
    if lidar is not None:
        xyz = lidar.points[:, :3] @ new_SE3_old[:3, :3].T.astype(np.float32) + new_SE3_old[:3, 3].astype(np.float32)
        lidar = replace(lidar, points=np.concatenate([xyz, lidar.points[:, 3:]], axis=1))
    return replace(
        frame,
        world_SE3_agent=frame.world_SE3_agent @ old_SE3_new,
        world_SE3_agent_measured=frame.world_SE3_agent_measured @ old_SE3_new,
        lidar=lidar,
        cameras=tuple(replace(view, agent_SE3_camera=new_SE3_old @ view.agent_SE3_camera) for view in frame.cameras),
    )


def map_frames(scene: Scene, change: Callable[[AgentFrame], AgentFrame]) -> Scene:
    """Apply `change` to every agent's frame; the outline gets the ego's new pose."""
    frames = tuple(change(frame) for frame in scene.frames)
    ego = next(frame for frame in frames if frame.agent_id == scene.outline.ego_id)
    return Scene(replace(scene.outline, world_SE3_ego=ego.world_SE3_agent), frames, scene.objects)


def _mirrored(objects: ObjectLabels, signs: Float64) -> ObjectLabels:
    return replace(objects, world_corners=(objects.world_corners * signs[:3])[:, _MIRRORED_CORNERS])


def _scaled(objects: ObjectLabels, factor: float) -> ObjectLabels:
    return replace(objects, world_corners=objects.world_corners * factor)


def _move_frame_at_random(frame: AgentFrame, settings: AugmentConfig, rng: np.random.Generator) -> AgentFrame:
    """Turn, tilt and lift the coordinate frame of an agent at random."""
    turned = rng.random() < settings.turned_share
    yaw = np.radians(rng.uniform(-settings.agent_yaw_deg, settings.agent_yaw_deg)) * turned
    roll, pitch = np.radians(rng.normal(0.0, settings.tilt_deg, 2))
    rotation_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    rotation_y = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
    rotation_x = np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]])
    old_SE3_new = np.eye(4)
    old_SE3_new[:3, :3] = rotation_z @ rotation_y @ rotation_x
    old_SE3_new[2, 3] = rng.uniform(-settings.height_m, settings.height_m)
    return move_frame(frame, old_SE3_new)


def _vary_points(frame: AgentFrame, settings: AugmentConfig, rng: np.random.Generator) -> AgentFrame:
    """Drop points, and vary their places and intensities at random."""
    if frame.lidar is None:
        return frame
    points = frame.lidar.points
    if settings.thin_points and rng.random() < 0.5:
        points = points[rng.random(len(points)) >= rng.uniform(0.0, settings.thin_points)]
    xyz, intensity = points[:, :3], points[:, 3:]
    if settings.jitter_m:
        xyz = xyz + rng.normal(0.0, settings.jitter_m, xyz.shape).astype(np.float32)
    intensity = _vary_intensity(intensity, settings, rng)
    return replace(frame, lidar=LidarScan(np.concatenate([xyz, intensity], axis=1).astype(np.float32), frame.lidar.beams))


def _vary_intensity(intensity: Float32, settings: AugmentConfig, rng: np.random.Generator) -> Float32:
    """Vary intensities at random: their scale differs from sensor to sensor by far more than from surface to surface."""
    if rng.random() < settings.intensity_blind:
        return np.zeros_like(intensity)
    if settings.intensity <= 1.0:
        return intensity
    spread = np.log(settings.intensity)
    gain, exponent = np.exp(rng.uniform(-spread, spread)), np.exp(rng.uniform(-0.5, 0.5))
    varied: Float32 = np.clip(gain * intensity**exponent, 0.0, 1.0).astype(np.float32)
    return varied
