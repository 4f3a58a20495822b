"""The labels of a tick, and the LiDAR points on them: from the agents' reports, and of agents without a report from the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from heal.agent_types import in_range
from heal.agents.failures import FAILED, in_one_line
from heal.agents.faults import Fault
from heal.agents.records import AgentAside, AgentReport
from heal.detection.boxes import boxes_around_origin, corners_to_boxes
from heal.detection.detections import GroundTruth
from heal.detection.visibility import PointCounts, SceneVisibility, count_points, joint_visibility
from heal.types import WHOLE_SWEEP, AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice

_LABELS_ALONE = SensorChoice(lidar=False)


@dataclass(frozen=True)
class TickLabels:
    """The labels of a tick.

    Attributes:
        objects: the labels of the agents in range, or those that the scene has as a whole.
        counts: points on labelled vehicles of each agent for which they are known.
        faults: agents whose labels cannot be read.
    """

    objects: ObjectLabels
    counts: Mapping[str, PointCounts]
    faults: tuple[Fault, ...] = ()

    def visibility(self, truth: GroundTruth, ego_id: str) -> SceneVisibility | None:
        """Return the points on all objects of the ground truth but the ego's vehicle; None if those of the ego are not known."""
        if ego_id not in self.counts:
            return None
        others = truth.ids[~boxes_around_origin(corners_to_boxes(truth.corners))]
        return joint_visibility(others.numpy(), self.counts, ego_id)


def read_labels(
    tick: int,
    outline: SceneOutline,
    reports: Sequence[AgentReport],
    asides: Sequence[AgentAside],
    source: SceneSource,
    *,
    range_m: float,
    counts: bool,
    tolerant: bool,
) -> TickLabels:
    """Return the labels of all agents of a scene that are in range of the ego, whether they take part or not.

    The range counts between true poses, so that runs with other errors of the poses have the same objects.

    Args:
        tick: index of the scene in the source.
        outline: of the scene.
        reports: of the agents that have stepped; the labels of the others are read from the source.
        asides: the points that agents have counted on them.
        source: of the scenes.
        range_m: range of communication in metres; infinite if the labels of all agents count.
        counts: whether the points of the others are counted too.
        tolerant: whether labels that cannot be read are a fault of their agent, and missing; otherwise the error is raised.
    """
    counted = {aside.agent_id: aside.counts for aside in asides if aside.counts is not None}
    whole = source.scene_objects(tick)
    if whole is not None and outline.labelled_as_whole:
        return TickLabels(whole, counted)
    known = {report.agent_id: (report.world_SE3_agent, report.objects) for report in reports}
    faults: list[Fault] = []
    for agent_id in [name for name in outline.agent_ids if name not in known]:
        if (frame := _frame(source, tick, agent_id, counts, faults if tolerant else None)) is not None:
            known[agent_id] = frame.world_SE3_agent, frame.objects
            count = count_points(frame, frame.objects if whole is None else whole) if counts else None
            counted |= {agent_id: count} if count else {}
    placed = [known[name] for name in outline.agent_ids if name in known]
    near = [objects for pose, objects in placed if in_range(outline.world_SE3_ego, pose, range_m)]
    objects = ObjectLabels.union(near) if whole is None or len(near) < len(outline.agent_ids) else whole
    return TickLabels(objects, counted, tuple(faults))


def _frame(source: SceneSource, tick: int, agent_id: str, counts: bool, faults: list[Fault] | None) -> AgentFrame | None:
    """Read the labels of an agent, and its sweep if `counts` and if it can be read.

    An error is noted in `faults`, or raised if there is no such list.
    """
    if counts:
        with suppress(Exception):  # a sweep that cannot be read costs the count alone
            return source.agent_frame(tick, agent_id, WHOLE_SWEEP)
    try:
        return source.agent_frame(tick, agent_id, _LABELS_ALONE)
    except Exception as error:
        if faults is None:
            raise
        faults.append(Fault(FAILED, agent_id, in_one_line(error)))
        return None
