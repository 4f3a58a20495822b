"""What a picture of a tick in bird's-eye view shows: agents, boxes, and the vehicles that are hidden from the ego."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from heal.agents.message_records import MessageRecord
from heal.agents.records import NodeLatency, TickResult
from heal.detection.classes import VEHICLE
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import IOU_THRESHOLDS
from heal.se3 import relative_SE3
from heal.tools.pictures.marks import aspect
from heal.types import BoolMask, Float32, Float64, UInt8

FOUND_IOU = 0.5
# Timestamps from here on are seconds since the Unix epoch; smaller ones are seconds since the start of the run.
EPOCH_TIMES_FROM_S = 1e8
# A picture of more detections than this, or than twice the labelled vehicles, leaves out those with low scores.
MOST_BOXES = 60
SCORE_STEP = 0.05


@dataclass(frozen=True)
class BevAgent:
    """An agent in a picture.

    Attributes:
        agent_id: name of the agent.
        ego_SE3_agent: (4, 4) pose in the ego's frame.
        points: (N, 4) LiDAR points in the agent's frame: x, y, z in metres, intensity.
        message: the agent's message of the tick and its status.
    """

    agent_id: str
    ego_SE3_agent: Float64
    points: Float32
    message: MessageRecord


@dataclass(frozen=True)
class CameraAgent:
    """An agent with cameras in a picture.

    Attributes:
        agent_id: name of the agent.
        position: of the agent among all agents of the picture, which chooses its colour.
        images: (H, W, 3) RGB, one for each camera.
    """

    agent_id: str
    position: int
    images: tuple[UInt8, ...]


@dataclass(frozen=True)
class BevPicture:
    """What a picture shows.

    Attributes:
        title: heading of the panel, such as the scene's name.
        subtitle: line below the title.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max in the ego's frame.
        agents: the agents whose pose is known, ego first.
        detections: boxes of the fusion node, in the ego's frame.
        ground_truth: G labelled vehicles, in the ego's frame.
        found: (G,) whether a detection matches the vehicle at IoU 0.5.
        hidden: (G,) whether the ego has fewer than 5 points on the vehicle and another agent more than 20; False if not known.
        node: time of the fusion node's stages; None if the node did not answer.
        cameras: the agents with cameras, and what these see.
        drawn_from: least score of the detections that are drawn.
        caption: text in the corner of the scene, for pictures side by side.
        class_names: names of the classes of boxes, by their numbers.
    """

    title: str
    subtitle: str
    range_m: Sequence[float]
    agents: tuple[BevAgent, ...]
    detections: Detections
    ground_truth: GroundTruth
    found: BoolMask
    hidden: BoolMask
    node: NodeLatency | None
    cameras: tuple[CameraAgent, ...] = ()
    drawn_from: float = 0.0
    caption: str = ""
    class_names: tuple[str, ...] = (VEHICLE,)

    @property
    def aspect(self) -> float:
        """Height of the range divided by its width."""
        return aspect(self.range_m)

    @property
    def drawn(self) -> BoolMask:
        """(D,) whether each detection is drawn."""
        mask: BoolMask = self.detections.scores.numpy() >= self.drawn_from
        return mask


def picture_of(result: TickResult, range_m: Sequence[float]) -> BevPicture:
    """Return the picture of a tick.

    Args:
        result: a tick that was run with `RunOptions.keep_views` and `count_points`; without views there are boxes only.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max in the ego's frame.
    """
    messages = {record.agent_id: record for record in result.messages}
    agents = tuple(
        BevAgent(view.agent_id, relative_SE3(result.world_SE3_ego, view.world_SE3_agent), view.points, messages[view.agent_id])
        for view in result.views
    )
    found = result.match.found[IOU_THRESHOLDS.index(FOUND_IOU)]
    subtitle = f"tick {result.tick}, {clock(result.timestamp_ns)}, ego: {result.ego_id}"
    cameras = tuple(CameraAgent(view.agent_id, i, view.images) for i, view in enumerate(result.views) if view.images)
    return BevPicture(
        title=result.scene_id,
        subtitle=subtitle,
        range_m=range_m,
        agents=agents,
        detections=result.detections,
        ground_truth=result.ground_truth,
        found=found,
        hidden=result.hidden,
        node=result.latency,
        cameras=cameras,
        drawn_from=least_drawn_score(result.detections, len(result.ground_truth)),
        class_names=result.class_names,
    )


def least_drawn_score(detections: Detections, vehicles: int) -> float:
    """Return the score from which on a picture shows detections: 0, or a multiple of `SCORE_STEP` if there are too many.

    Weights that were trained on other data find a hundred faint boxes, under which a picture cannot be read.

    Args:
        detections: all detections of the tick.
        vehicles: number of labelled vehicles.
    """
    most = max(MOST_BOXES, 2 * vehicles)
    if len(detections) <= most:
        return 0.0
    first_left_out = float(detections.scores[most])
    return float(np.round((np.floor(first_left_out / SCORE_STEP) + 1) * SCORE_STEP, 2))


def format_bytes(size: int) -> str:
    """Return a number of bytes as text in B, kB (1000 B) or MB."""
    for unit, divisor in (("MB", 1e6), ("kB", 1e3)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size} B"


def clock(timestamp_ns: int) -> str:
    """Return a timestamp as text: seconds since the start of the run, or the time of day of a Unix timestamp."""
    seconds = timestamp_ns / 1e9
    if seconds < EPOCH_TIMES_FROM_S:
        return f"t = {seconds:.1f} s"
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%H:%M:%S.%f}"[:-5] + " UTC"
