"""What is shown of a scene: clouds and boxes in one frame, points counted in boxes, boxes counted in images, captions, warnings.

The counts make a wrong calibration or pose visible: boxes without points, agents whose cloud fits no box, images without a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from heal.box_corners import boxes_around_origin, corners_to_boxes
from heal.detection.points import points_in_boxes
from heal.errors import UserError
from heal.se3 import inverse_SE3, relative_SE3, transform_points
from heal.tools.pictures.colors import agent_color
from heal.tools.pictures.picture import clock
from heal.tools.showing.projection import boxes_ahead, boxes_inside
from heal.tools.showing.reading import ReadScene
from heal.types import AgentFrame, AgentKind, BoolMask, CameraView, Float32, Float64, Int64

Frame = Literal["ego", "world"]
FRAMES: tuple[Frame, ...] = get_args(Frame)
# Points count up to the first distance beside a box, for the sensor's noise, and from the second one above its floor on: every box
# that stands on a road holds points of the road.
BESIDE_M, FLOOR_M = 0.1, 0.3
# An agent's cloud should have points on boxes within this distance. From this number of boxes on, a share below that is a warning.
NEARBY_M, LEAST_BOXES, LEAST_SHARE = 40.0, 4, 0.25
# The range that is chosen: around agents and boxes with a margin, at least and at most so far from the ego.
MARGIN_M, LEAST_M, MOST_M, ANY_HEIGHT_M = 8.0, 30.0, 120.0, 10_000.0
# The least extent in y as a part of that in x, and the other way round.
FLATTEST = 0.55


@dataclass(frozen=True)
class ShownCamera:
    """A camera's image, and how many boxes are ahead of it (within 45 degrees of its axis), and of these in the image."""

    view: CameraView
    ahead: int
    inside: int

    @property
    def is_empty(self) -> bool:
        """Whether there are boxes ahead of the camera, and none falls into the image."""
        return self.ahead > 0 and self.inside == 0


@dataclass(frozen=True)
class ShownAgent:
    """An agent in a picture.

    Attributes:
        agent_id: its name.
        kind: a vehicle or a roadside unit.
        color: "#rrggbb".
        frame_SE3_agent: (4, 4) pose in the shown frame.
        points: (N, 4) its points in its own frame, those in the range; None without a cloud.
        corners: (B, 8, 3) the scene's boxes in the agent's frame.
        own_corners: (K, 8, 3) the agent's own labels in its frame, if the scene has labels of its own besides; else none.
        hits: (B,) number of the agent's points in each box.
        is_own: (B,) whether a box is the agent's own vehicle.
        cameras: its cameras.
    """

    agent_id: str
    kind: AgentKind
    color: str
    frame_SE3_agent: Float64
    points: Float32 | None
    corners: Float64
    own_corners: Float64
    hits: Int64
    is_own: BoolMask
    cameras: tuple[ShownCamera, ...]

    @property
    def nearby(self) -> BoolMask:
        """(B,) which boxes, other than the agent's own vehicle, have their centre within `NEARBY_M`."""
        near: BoolMask = (np.linalg.norm(self.corners.mean(axis=1)[:, :2], axis=1) <= NEARBY_M) & ~self.is_own
        return near

    @property
    def fits(self) -> bool:
        """Whether enough of the nearby boxes hold points of the agent; also if there are too few boxes to tell."""
        count = int(self.nearby.sum())
        return self.points is None or count < LEAST_BOXES or (self.hits > 0)[self.nearby].sum() >= LEAST_SHARE * count

    @property
    def caption(self) -> str:
        """The numbers of points and of boxes with points."""
        if self.points is None:
            return f"{self.agent_id}: no cloud"
        boxes = f", on {int((self.hits > 0)[self.nearby].sum())} of {int(self.nearby.sum())} boxes within {NEARBY_M:g} m"
        return f"{self.agent_id}: {len(self.points):,} points{boxes if len(self.hits) else ''}"

    def camera_caption(self, camera: ShownCamera) -> str:
        """The number of boxes in a camera's image."""
        boxes = f": {camera.inside} of {camera.ahead} boxes ahead in the image"
        return f"{self.agent_id} {camera.view.name}{boxes if len(self.hits) else ''}"


@dataclass(frozen=True)
class ShownScene:
    """What a picture shows of a scene.

    Attributes:
        scene_id: its name.
        timestamp_ns: its time.
        ego_id: the agent in whose frame, or around whose position in world axes, everything is drawn.
        frame: "ego" or "world".
        range_m: x_min, y_min, z_min, x_max, y_max, z_max of what is drawn, in the shown frame.
        ids: (B,) of the labelled objects.
        corners: (B, 8, 3) their boxes in the shown frame, in metres.
        agents: the ego first.
        outside: number of labelled objects that are not shown because they are outside of the range.
        troubles: files that cannot be read.
    """

    scene_id: str
    timestamp_ns: int
    ego_id: str
    frame: Frame
    range_m: tuple[float, ...]
    ids: Int64
    corners: Float64
    agents: tuple[ShownAgent, ...]
    outside: int
    troubles: tuple[str, ...] = ()

    @property
    def is_empty(self) -> BoolMask:
        """(B,) which boxes hold no point of any agent; none if no agent has a cloud. The agents' own vehicles do not count."""
        if all(agent.points is None for agent in self.agents):
            return np.zeros(len(self.ids), np.bool_)
        counts = np.array([agent.hits for agent in self.agents]).sum(axis=0)
        empty: BoolMask = (counts == 0) & ~np.any([agent.is_own for agent in self.agents], axis=0)
        return empty

    @property
    def caption(self) -> str:
        """Time, frame, and the numbers of agents and boxes."""
        beyond = f" ({self.outside} more outside of the range)" if self.outside else ""
        frame = f"in the frame of {self.ego_id}" if self.frame == "ego" else f"in world axes around {self.ego_id}"
        return f"{clock(self.timestamp_ns)}, {frame}: {len(self.agents)} agents, {len(self.ids)} labelled boxes{beyond}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What does not fit, one line each."""
        lines = list(self.troubles)
        if count := int(self.is_empty.sum()):
            named = ", ".join(map(str, self.ids[self.is_empty][:8].tolist())) + (" ..." if count > 8 else "")
            lines.append(f"{count} of {len(self.ids)} labelled boxes hold no point of any agent: {named}")
        for agent in self.agents:
            if not agent.fits:
                lines.append(f"the cloud of {agent.caption}: its pose or calibration may be wrong")
            lines += [
                f"{agent.agent_id} {camera.view.name}: none of the {camera.ahead} boxes ahead falls into the image"
                for camera in agent.cameras
                if camera.is_empty
            ]
        return tuple(lines)


def contents_of(read: ReadScene, frame: str = "ego", range_m: Sequence[float] | None = None, boxes: bool = True) -> ShownScene:
    """Return what is shown of a scene.

    Args:
        read: the scene.
        frame: "ego", or "world" for the axes of the world with the ego's position as the origin.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max of what is shown, in that frame; None to show all agents and boxes.
        boxes: whether labelled boxes are shown and counted.

    Raises:
        UserError: another frame, or a range without an extent.
    """
    scene = read.scene
    frames: dict[str, Frame] = {name: name for name in FRAMES}
    if frame not in frames:
        raise UserError(f"--frame: expected {' or '.join(FRAMES)}, got {frame!r}")
    frame_SE3_world = _frame_SE3_world(scene.outline.world_SE3_ego, frames[frame])
    objects = scene.objects if boxes else scene.objects.select(np.zeros(len(scene.objects), np.bool_))
    corners = transform_points(frame_SE3_world, objects.world_corners)
    places = [transform_points(frame_SE3_world, each.world_SE3_agent[:3, 3]) for each in scene.frames]
    chosen_m = _checked_range(range_m) if range_m else range_around(np.array([*places, *corners.mean(axis=1)]))
    shown = _inside(corners.mean(axis=1), chosen_m)
    with_own = boxes and scene.outline.labelled_as_whole
    agents = tuple(
        _agent(each, agent_color(i), frame_SE3_world, chosen_m, corners[shown], with_own) for i, each in enumerate(scene.ego_first)
    )
    return ShownScene(
        scene_id=scene.outline.scene_id,
        timestamp_ns=scene.outline.timestamp_ns,
        ego_id=scene.outline.ego_id,
        frame=frames[frame],
        range_m=chosen_m,
        ids=objects.ids[shown],
        corners=corners[shown],
        agents=agents,
        outside=int((~shown).sum()),
        troubles=read.troubles,
    )


def _frame_SE3_world(world_SE3_ego: Float64, frame: Frame) -> Float64:
    if frame == "ego":
        return inverse_SE3(world_SE3_ego)
    moved = np.eye(4)
    moved[:3, 3] = -world_SE3_ego[:3, 3]
    return moved


def _agent(
    frame: AgentFrame, color: str, frame_SE3_world: Float64, range_m: Sequence[float], corners: Float64, with_own: bool
) -> ShownAgent:
    """Return an agent, with the scene's boxes (B, 8, 3), which are given in the shown frame, in the agent's frame."""
    frame_SE3_agent = frame_SE3_world @ frame.world_SE3_agent
    in_agent = transform_points(inverse_SE3(frame_SE3_agent), corners)
    own = frame.objects.world_corners if with_own else np.zeros((0, 8, 3))
    points = None if frame.lidar is None else _points_inside(frame.lidar.points, frame_SE3_agent, range_m)
    ahead = [boxes_ahead(view, in_agent) for view in frame.cameras]
    inside = [boxes_inside(view, in_agent) for view in frame.cameras]
    counts = [(int(a.sum()), int((a & i).sum())) for a, i in zip(ahead, inside, strict=True)]
    return ShownAgent(
        agent_id=frame.agent_id,
        kind=frame.kind,
        color=color,
        frame_SE3_agent=frame_SE3_agent,
        points=points,
        corners=in_agent,
        own_corners=transform_points(relative_SE3(frame.world_SE3_agent, np.eye(4)), own),
        hits=hits_above_floor(points, in_agent),
        is_own=boxes_around_origin(corners_to_boxes(in_agent)) & (frame.kind == "vehicle"),
        cameras=tuple(ShownCamera(view, *count) for view, count in zip(frame.cameras, counts, strict=True)),
    )


def _points_inside(points: Float32, frame_SE3_agent: Float64, range_m: Sequence[float]) -> Float32:
    return points[_inside(transform_points(frame_SE3_agent, points[:, :3].astype(np.float64)), range_m)]


def hits_above_floor(points: Float32 | None, corners: Float64) -> Int64:
    """Count the points (N, 4) in each box (B, 8, 3), at least `FLOOR_M` above its floor, or above the middle of a low box; (B,)."""
    if points is None:
        return np.zeros(len(corners), np.int64)
    height = np.maximum(np.linalg.norm(corners[:, 4:] - corners[:, :4], axis=-1, keepdims=True), 1e-9)  # (B, 4, 1)
    raised = corners[:, :4] + np.minimum((FLOOR_M + BESIDE_M) / height, 0.5) * (corners[:, 4:] - corners[:, :4])
    above = np.concatenate([raised, corners[:, 4:]], axis=1)
    return points_in_boxes(points[:, :3].astype(np.float64), above, BESIDE_M)


def _inside(places: Float64, range_m: Sequence[float]) -> BoolMask:
    """Return which places (N, 3) are in a range, as (N,)."""
    inside = (places >= range_m[:3]) & (places <= range_m[3:])  # (N, 3)
    return np.asarray(inside.all(axis=1), bool)


def _checked_range(range_m: Sequence[float]) -> tuple[float, ...]:
    if not all(low < high for low, high in zip(range_m[:3], range_m[3:], strict=True)):
        raise UserError(f"--range-m: expected x_min y_min z_min x_max y_max z_max, each minimum below its maximum, got {range_m}")
    return tuple(range_m)


def range_around(places: Float64) -> tuple[float, ...]:
    """Return a range around places (N, 3) with a margin, within limits, and neither very flat nor very tall; all heights."""
    low = np.clip(places[:, :2].min(axis=0) - MARGIN_M, -MOST_M, -LEAST_M)
    high = np.clip(places[:, :2].max(axis=0) + MARGIN_M, LEAST_M, MOST_M)
    missing = np.maximum(FLATTEST * (high - low)[::-1] - (high - low), 0) / 2
    (x_min, y_min), (x_max, y_max) = (low - missing).tolist(), (high + missing).tolist()
    return x_min, y_min, -ANY_HEIGHT_M, x_max, y_max, ANY_HEIGHT_M
