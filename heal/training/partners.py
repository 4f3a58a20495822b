"""Partners of the ego that are of little use: a base that has met them in training leaves them aside when it meets them in a run.

Each agent of a scene but the ego may become blind, see only a part of its surroundings, believe to be elsewhere, send noise, or
have a LiDAR with fewer lines. What the scene asks for are the objects that are still to be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from heal.config import config
from heal.detection.points import points_in_boxes
from heal.errors import UserError
from heal.se3 import inverse_SE3, pose_to_SE3, transform_points
from heal.types import AgentFrame, BoolMask, CameraView, Float64, ObjectLabels, Scene

# An agent whose pose is off by more than this does not show where its objects are.
_USABLE_M, _USABLE_DEG = 0.5, 2.0
# Two labels nearer than this are of the same object.
_SAME_M = 1.0
# Shares of the wrong poses that are wholly wrong, and how wrong.
_LOST_SHARE, _LOST_M = 0.2, 40.0
# Lines that a thinned LiDAR keeps of its own: each second or each fourth.
_KEPT_LINES = (2, 4)


@config
class PartnersConfig:
    """The probabilities that an agent other than the ego is of little use, and how; none by default.

    Attributes:
        blind: it has no LiDAR return, or black images.
        partial: its LiDAR sees one sector of 60 to 300 degrees, or up to a distance of 10 to 40 m; images stay whole.
        wrong_pose: it measures its pose with an error, of up to `pose_m` and `pose_deg` as the scale of a normal error; one in five
            is wholly wrong.
        noise: its feature map is random.
        few_lines: every second or every fourth line of its LiDAR is left; images stay whole.
        pose_m: largest scale of the error of a wrong pose, in metres.
        pose_deg: largest scale of the error of a wrong heading, in degrees.
    """

    blind: float = 0.0
    partial: float = 0.0
    wrong_pose: float = 0.0
    noise: float = 0.0
    few_lines: float = 0.0
    pose_m: float = 2.0
    pose_deg: float = 10.0

    def __post_init__(self) -> None:
        """Check that the shares leave some agents as they are."""
        shares = (self.blind, self.partial, self.wrong_pose, self.noise, self.few_lines)
        if min(shares) < 0 or sum(shares) > 1:
            raise UserError(f"partners: expected shares of at least 0 that sum to at most 1, got {shares}")


@dataclass(frozen=True)
class SpoiledScene:
    """A scene with spoiled partners.

    Attributes:
        scene: the scene; its objects are those that its agents can still show.
        noisy: ids of the agents whose feature maps are to be replaced by noise.
        misplaced: ids of the agents whose measured pose is wrong.
    """

    scene: Scene
    noisy: frozenset[str] = frozenset()
    misplaced: frozenset[str] = frozenset()


def spoil_partners(scene: Scene, settings: PartnersConfig, rng: np.random.Generator) -> SpoiledScene:
    """Spoil the agents of a scene at random, each on its own; equal generators give equal scenes.

    The labels of an agent become those that its data still show, the objects of the scene those that agents with usable poses show.
    """
    shares = [getattr(settings, name) for name in _SPOILERS]
    kinds = {frame.agent_id: _drawn_kind(shares, rng) for frame in scene.frames} if any(shares) else {}
    kinds[scene.outline.ego_id] = None
    if not any(kinds.values()):
        return SpoiledScene(scene)
    frames, shown = [], []
    for frame in scene.frames:
        kind = kinds[frame.agent_id]
        frames.append(frame if kind is None else _SPOILERS[kind](frame, settings, rng))
        if _is_usable(frames[-1].world_SE3_agent_measured, frame.world_SE3_agent_measured):
            shown.append(frames[-1].objects)
    spoiled = replace(scene, frames=tuple(frames), objects=_shown_objects(scene.objects, shown))
    noisy, misplaced = (frozenset(name for name, kind in kinds.items() if kind == wanted) for wanted in ("noise", "wrong_pose"))
    return SpoiledScene(spoiled, noisy, misplaced)


def _is_usable(measured: Float64, right: Float64) -> bool:
    """Return whether a measured pose is near enough to the right one for its map to show where objects are."""
    error = inverse_SE3(right) @ measured
    turned_deg = abs(np.degrees(np.arctan2(error[1, 0], error[0, 0])))
    return bool(np.hypot(*error[:2, 3]) <= _USABLE_M and turned_deg <= _USABLE_DEG)


def _shown_objects(objects: ObjectLabels, shown: Sequence[ObjectLabels]) -> ObjectLabels:
    """Return the objects that are among those that agents show, by place: in some data sets, each agent has ids of its own."""
    places, seen = (np.concatenate([part.world_corners for part in parts]).mean(axis=1) for parts in ([objects], shown))
    distance_m = np.linalg.norm(places[:, None, :2] - seen[None, :, :2], axis=2)
    keep = (distance_m < _SAME_M).any(axis=1)
    return objects.select(keep)


def _drawn_kind(shares: Sequence[float], rng: np.random.Generator) -> str | None:
    """Draw how an agent is spoiled; None for not at all."""
    index = int(np.searchsorted(np.cumsum(shares), rng.random(), side="right"))
    return list(_SPOILERS)[index] if index < len(_SPOILERS) else None


def blinded(frame: AgentFrame) -> AgentFrame:
    """Return the frame of an agent that sees nothing: no LiDAR return, black images without depth, no labels."""
    lidar = frame.lidar and replace(frame.lidar, points=frame.lidar.points[:0])
    return replace(frame, lidar=lidar, cameras=tuple(_black(view) for view in frame.cameras), objects=ObjectLabels.empty())


def _black(view: CameraView) -> CameraView:
    depth_m = None if view.depth_m is None else np.zeros_like(view.depth_m)  # no measurement
    return replace(view, image=np.zeros_like(view.image), depth_m=depth_m)


def _silenced(frame: AgentFrame, settings: PartnersConfig, rng: np.random.Generator) -> AgentFrame:
    """Drop the labels of an agent whose map will be noise."""
    return replace(frame, objects=ObjectLabels.empty())


def _narrowed(frame: AgentFrame, settings: PartnersConfig, rng: np.random.Generator) -> AgentFrame:
    """Leave the points of one sector, or up to a distance, and the objects with any of these points in them."""
    width, start, reach_m, by_sector = rng.uniform(60, 300), rng.uniform(0, 360), rng.uniform(10, 40), rng.random() < 0.5
    if frame.lidar is None:
        return frame
    x, y = frame.lidar.points[:, 0], frame.lidar.points[:, 1]
    keep = (np.degrees(np.arctan2(y, x)) - start) % 360 < width if by_sector else np.hypot(x, y) < reach_m
    return _with_points(frame, keep)


def _thinned(frame: AgentFrame, settings: PartnersConfig, rng: np.random.Generator) -> AgentFrame:
    """Leave every second or every fourth line of 64: points by their elevation, because clouds do not number their lines."""
    every = int(rng.choice(_KEPT_LINES))
    if frame.lidar is None:
        return frame
    points = frame.lidar.points
    elevation = np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))
    edges = np.quantile(elevation, np.linspace(0, 1, 65)) if len(points) else np.zeros(65)
    return _with_points(frame, np.searchsorted(edges[1:-1], elevation) % every == 0)


def _with_points(frame: AgentFrame, keep: BoolMask) -> AgentFrame:
    """Return a frame with some of its points, and with the objects that any of them lies in; images still show all objects."""
    assert frame.lidar is not None
    left = replace(frame, lidar=replace(frame.lidar, points=frame.lidar.points[keep]))
    return left if frame.cameras else replace(left, objects=_hit(left))


def _hit(frame: AgentFrame) -> ObjectLabels:
    """Return the objects of a frame that have at least one point in them."""
    assert frame.lidar is not None
    corners = transform_points(inverse_SE3(frame.world_SE3_agent), frame.objects.world_corners)
    hit = points_in_boxes(frame.lidar.points[:, :3].astype(np.float64), corners) > 0
    return frame.objects.select(hit)


def _misplaced(frame: AgentFrame, settings: PartnersConfig, rng: np.random.Generator) -> AgentFrame:
    """Give an agent a wrong measured pose."""
    error = rng.normal(0.0, 1.0, 3) * rng.random() * np.array([settings.pose_m, settings.pose_m, settings.pose_deg])
    if rng.random() < _LOST_SHARE:
        error = rng.uniform(-1.0, 1.0, 3) * np.array([_LOST_M, _LOST_M, 180.0])
    moved = frame.world_SE3_agent_measured @ pose_to_SE3([error[0], error[1], 0, 0, error[2], 0])
    return replace(frame, world_SE3_agent_measured=moved)


_SPOILERS: dict[str, Callable[[AgentFrame, PartnersConfig, np.random.Generator], AgentFrame]] = {
    "blind": lambda frame, settings, rng: blinded(frame),
    "partial": _narrowed,
    "wrong_pose": _misplaced,
    "noise": _silenced,
    "few_lines": _thinned,
}
