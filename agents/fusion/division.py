"""Dividing the fusion of a tick among fusion nodes: one task for each node, and one result joined from the nodes' outcomes.

With regions the ground is cut into squares, and every square has a fusion node of its own, as on roadside computers or in a data
centre instead of on board the ego vehicle. A node fuses in the frame of its region, from the messages of all agents around, and
returns the boxes in its region alone. The regions in use are those that the maps of agents reach into, now or within the last
`max_age_ms`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch

from heal.agents.fusion.plausible import implausible_pose
from heal.agents.message_records import MessageRecord
from heal.agents.options import RunOptions
from heal.agents.records import (
    NODE_AWAY,
    OUT_OF_RANGE,
    AgentReport,
    FusionOutcome,
    FusionRequest,
    HeldMap,
    NodeLatency,
    Rejection,
    Sender,
)
from heal.agents.region import Region, region_frame, regions_in_reach
from heal.detection.boxes import corners_within_range, transform_corners
from heal.detection.decode import DecodeConfig, select_detections
from heal.detection.detections import Detections
from heal.errors import UserError
from heal.grid import BevGrid
from heal.se3 import relative_SE3
from heal.types import Float64

Payload = TypeVar("Payload")
# If several regions reject a message for different reasons, the reason of the lowest rank counts. A node that is away might have
# used the message; a sender out of range of one region may be in range of another.
_RANK_OF_REASON = {NODE_AWAY: 0, OUT_OF_RANGE: 2}
_OTHER_REASON = 1
# The smallest edge of a region, as a fraction of the grid's longer side: 1 / 8.
_SMALLEST_SHARE = 8


@dataclass(frozen=True)
class FusionTask(Generic[Payload]):
    """The task of one fusion node in a tick.

    Attributes:
        request: the request to the node.
        arrived: the messages that the node reads for the request, in the runtime's own form, with their records.
    """

    request: FusionRequest
    arrived: tuple[tuple[MessageRecord, Payload], ...]

    @property
    def senders(self) -> tuple[Sender, ...]:
        """The sender and the tick of each message."""
        return tuple((record.agent_id, record.tick) for record, _ in self.arrived)


class Division(Protocol):
    """A division of fusion among nodes. A division keeps state from tick to tick; its methods are called in the order of ticks."""

    def is_own(self, agent_id: str, ego_id: str) -> bool:
        """Return whether the fusion node runs on board an agent's vehicle, so that the agent's message crosses no link."""
        ...

    def locate(self, request: FusionRequest, reports: Sequence[AgentReport]) -> tuple[str, ...]:
        """Store the positions of agents in a tick.

        Args:
            request: the request of the whole tick.
            reports: of the agents.

        Returns:
            The ids of the agents that are handed over to another fusion node.
        """
        ...

    def share_out(
        self, request: FusionRequest, arrived: Sequence[tuple[MessageRecord, Payload]]
    ) -> tuple[FusionTask[Payload], ...]:
        """Return the tasks of a tick, each with the messages that its node needs.

        Args:
            request: the request of the whole tick.
            arrived: all messages that have arrived, in the runtime's own form, with their records.
        """
        ...

    def join(
        self,
        request: FusionRequest,
        tasks: Sequence[FusionTask[Any]],
        outcomes: Sequence[FusionOutcome | None],
        senders: Sequence[Sender],
    ) -> FusionOutcome | None:
        """Join the outcomes of all tasks to the outcome of a tick.

        Args:
            request: the request of the whole tick.
            tasks: from `share_out`.
            outcomes: of each task; None if the task's node did not answer.
            senders: of all messages that have arrived.

        Returns:
            The outcome in the frame of `request`; None if no node answered.
        """
        ...


class Undivided:
    """A single fusion node, which runs on board the ego vehicle, fuses in the ego's frame and reads all messages."""

    def is_own(self, agent_id: str, ego_id: str) -> bool:
        """Return whether the agent is the ego, whose message the fusion node reads on board."""
        return agent_id == ego_id

    def locate(self, request: FusionRequest, reports: Sequence[AgentReport]) -> tuple[str, ...]:
        """Hand over no agent: there is one region."""
        return ()

    def share_out(
        self, request: FusionRequest, arrived: Sequence[tuple[MessageRecord, Payload]]
    ) -> tuple[FusionTask[Payload], ...]:
        """Send every message to the single fusion node."""
        return (FusionTask(request, tuple(arrived)),)

    def join(
        self,
        request: FusionRequest,
        tasks: Sequence[FusionTask[Any]],
        outcomes: Sequence[FusionOutcome | None],
        senders: Sequence[Sender],
    ) -> FusionOutcome | None:
        """Return the outcome of the single fusion node."""
        return outcomes[0]


@dataclass(frozen=True)
class _Position:
    """The position of an agent in one tick.

    Attributes:
        agent_id: the agent.
        timestamp_ns: the instant of the tick.
        sequence: the recording that the tick belongs to.
        world_SE3_agent: (4, 4) float64, the agent's measured pose.
        home: the region that contains the agent.
        reached: the regions that the agent's map overlaps and that are within its communication range.
    """

    agent_id: str
    timestamp_ns: int
    sequence: str
    world_SE3_agent: Float64
    home: Region
    reached: frozenset[Region]


class Regions:
    """A fusion node for every region.

    Agents are assigned to regions by the poses that they measure, which are also the poses in their messages. A message goes to all
    regions that its sender's map reaches into now or reached into within the last `max_age_ms`. A region that the sender has left
    needs the message too, because it replaces the sender's older map there.
    """

    def __init__(self, region_m: float, options: RunOptions, grid: BevGrid, decode: DecodeConfig) -> None:
        """Make the division of one run.

        Args:
            region_m: edge of a region in m.
            options: of the run.
            grid: of all maps; a region must lie inside the map of its fusion node.
            decode: how detections are selected, in a region and in the joined result.

        Raises:
            ValueError: the regions are too large for the grid, or so small that a node's map would be mostly outside its region.
        """
        extents_m = sorted((grid.length_x_m, grid.length_y_m))
        smallest_m, largest_m = extents_m[1] / _SMALLEST_SHARE, extents_m[0] / math.sqrt(2)
        if not smallest_m <= region_m <= largest_m:
            raise UserError(
                f"region_m: expected {smallest_m:.1f} to {largest_m:.1f} m with this alliance's grid of {grid.length_x_m:g} x "
                f"{grid.length_y_m:g} m, because a region must lie inside its fusion node's map at any heading, got {region_m:g}"
            )
        self._edge_m, self._options, self._grid, self._decode = region_m, options, grid, decode
        self._positions: list[_Position] = []

    def is_own(self, agent_id: str, ego_id: str) -> bool:
        """Return False: no fusion node runs on board a vehicle."""
        return False

    def locate(self, request: FusionRequest, reports: Sequence[AgentReport]) -> tuple[str, ...]:
        """Store the positions of agents, and return those that are in another region than at their last position.

        A report with an implausible pose gives no position.
        """
        homes = self._last_homes(request.sequence)
        plausible = [report for report in reports if implausible_pose(report.world_SE3_agent_measured) is None]
        new = [self._position(request, report) for report in plausible]
        self._positions += new
        return tuple(position.agent_id for position in new if homes.get(position.agent_id, position.home) != position.home)

    def share_out(
        self, request: FusionRequest, arrived: Sequence[tuple[MessageRecord, Payload]]
    ) -> tuple[FusionTask[Payload], ...]:
        """Return a task for every region in use, in the order of columns and, within a column, of rows.

        The message of an agent without a position goes to all regions, which reject it for its implausible pose.
        """
        self._positions = [position for position in self._positions if self._is_fresh(position, request)]
        poses, places = self._poses_around(), _places_by_sender(arrived)
        placed = {position.agent_id for position in self._positions}
        to_all = [place for agent_id, own in places.items() if agent_id not in placed for place in own]
        tasks = []
        for region, around in sorted(poses.items(), key=lambda item: item[0]):
            chosen = sorted([*to_all, *(place for agent_id in around for place in places.get(agent_id, ()))])
            tasks.append(FusionTask(_region_request(request, region, around), tuple(arrived[place] for place in chosen)))
        return tuple(tasks)

    def join(
        self,
        request: FusionRequest,
        tasks: Sequence[FusionTask[Any]],
        outcomes: Sequence[FusionOutcome | None],
        senders: Sequence[Sender],
    ) -> FusionOutcome | None:
        """Join the boxes of all regions in the ego's frame, each vehicle once, cut to the grid's range around the ego."""
        answered = [(task, outcome) for task, outcome in zip(tasks, outcomes, strict=True) if outcome is not None]
        if tasks and not answered:
            return None
        used = {agent_id for _, outcome in answered for agent_id in outcome.used}
        return FusionOutcome(
            tick=request.tick,
            detections=self._union(request, answered),
            used=tuple(sorted(used, key=lambda agent_id: (agent_id != request.ego_id, agent_id))),
            held=_newest_held([held for _, outcome in answered for held in outcome.held], used),
            rejected=_rejected(tasks, outcomes, senders),
            latency=_slowest([outcome.latency for _, outcome in answered]),
        )

    def _last_homes(self, sequence: str) -> Mapping[str, Region]:
        """Return the region of each agent's last position in a recording."""
        own = [position for position in self._positions if position.sequence == sequence]
        return {position.agent_id: position.home for position in sorted(own, key=lambda position: position.timestamp_ns)}

    def _position(self, request: FusionRequest, report: AgentReport) -> _Position:
        pose, limit_m = report.world_SE3_agent_measured, self._options.comm_range_m
        reached = regions_in_reach(pose, self._grid, self._edge_m)
        near = frozenset(region for region in reached if region.distance_m(pose) <= limit_m)
        return _Position(report.agent_id, request.timestamp_ns, request.sequence, pose, Region.at(pose, self._edge_m), near)

    def _poses_around(self) -> dict[Region, dict[str, Float64]]:
        """Return for each region in use the agents that reach it or have reached it, each with its newest pose there."""
        reached: dict[str, dict[Region, Float64]] = {}
        for position in sorted(self._positions, key=lambda position: position.timestamp_ns):
            reached.setdefault(position.agent_id, {}).update(dict.fromkeys(position.reached, position.world_SE3_agent))
        around: dict[Region, dict[str, Float64]] = {}
        for agent_id, poses in reached.items():
            for region, pose in poses.items():
                around.setdefault(region, {})[agent_id] = pose
        return around

    def _is_fresh(self, position: _Position, request: FusionRequest) -> bool:
        age_ms = abs(request.timestamp_ns - position.timestamp_ns) / 1e6
        return position.sequence == request.sequence and age_ms <= self._options.max_age_ms

    def _union(self, request: FusionRequest, answered: Sequence[tuple[FusionTask[Any], FusionOutcome]]) -> Detections:
        """Suppress duplicates among the boxes of all regions: both regions of a border find a vehicle on the border."""
        found = [(task.request.world_SE3_frame, outcome.detections) for task, outcome in answered if len(outcome.detections)]
        none = Detections.empty()
        moved = [none.corners]
        for world_SE3_region, detections in found:
            ego_SE3_region = torch.from_numpy(relative_SE3(request.world_SE3_frame, world_SE3_region))
            moved.append(transform_corners(ego_SE3_region, detections.corners.double()).float())
        corners, scores = torch.cat(moved), torch.cat([none.scores, *(detections.scores for _, detections in found)])
        classes = torch.cat([none.classes, *(detections.classes for _, detections in found)])
        # A box wholly beyond the range suppresses no box inside, and the boxes of a whole city would exceed the number of
        # candidates that the suppression takes.
        near = corners_within_range(corners, self._grid.range_m, use_z=False, minimum_corners=1)
        return select_detections(corners[near], scores[near], classes[near], self._decode, self._grid.range_m)


def divide(options: RunOptions, grid: BevGrid, decode: DecodeConfig) -> Division:
    """Return the division of a run's fusion: a single node, or regions if `options.region_m` is set. Arguments as for `Regions`."""
    return Undivided() if options.region_m is None else Regions(options.region_m, options, grid, decode)


def node_of(region: Region | None, nodes: int) -> int:
    """Return the number of the actor, of `nodes` actors, that hosts a region: always the same, and not that of its neighbours."""
    return 0 if region is None else (region.column + region.row) % nodes


def _region_request(request: FusionRequest, region: Region, world_SE3_agents: Mapping[str, Float64]) -> FusionRequest:
    """Return the request to a region's node, in a frame chosen from the poses of the agents around (see `region_frame`)."""
    frame = region_frame(region, list(world_SE3_agents.values()))
    return FusionRequest(request.tick, request.timestamp_ns, request.sequence, "", frame, region, request.trust)


def _places_by_sender(arrived: Sequence[tuple[MessageRecord, Any]]) -> dict[str, list[int]]:
    """Return the places of each sender's messages among all messages."""
    places: dict[str, list[int]] = {}
    for place, (record, _) in enumerate(arrived):
        places.setdefault(record.agent_id, []).append(place)
    return places


def _newest_held(maps: Sequence[HeldMap], used: set[str]) -> tuple[HeldMap, ...]:
    """Return each agent's newest map among the older maps that regions fused, without agents whose map of the tick was used."""
    newest: dict[str, HeldMap] = {}
    for held in sorted(maps, key=lambda held: (held.agent_id, held.age_ms)):
        if held.agent_id not in used:
            newest.setdefault(held.agent_id, held)
    return tuple(newest.values())


def _rejected(
    tasks: Sequence[FusionTask[Any]], outcomes: Sequence[FusionOutcome | None], senders: Sequence[Sender]
) -> tuple[Rejection, ...]:
    """Return a rejection with a single reason for each message that no region used."""
    # For each message one entry from each region that read the message: None if the region used it.
    answers: dict[Sender, list[Rejection | None]] = {sender: [] for sender in senders}
    for task, outcome in zip(tasks, outcomes, strict=True):
        rejected = {} if outcome is None else outcome.unused
        for sender in task.senders:
            away = Rejection(*sender, NODE_AWAY, f"of region {task.request.region}")
            answers[sender].append(away if outcome is None else rejected.get(sender))
    unused = {sender: [answer for answer in given if answer] for sender, given in answers.items() if None not in given}
    return tuple(_decisive(sender, rejections) for sender, rejections in unused.items())


def _decisive(sender: Sender, rejections: Sequence[Rejection]) -> Rejection:
    """Return the rejection with the reason of the lowest rank; "out of range" if no region read the message."""
    unread = Rejection(*sender, OUT_OF_RANGE, "no region in use is in range")
    return min(rejections, key=lambda rejection: _RANK_OF_REASON.get(rejection.reason, _OTHER_REASON), default=unread)


def _slowest(latencies: Sequence[NodeLatency]) -> NodeLatency:
    """Return the longest time of each stage, because the nodes of the regions work in parallel."""
    return NodeLatency(
        unpack_ms=max((latency.unpack_ms for latency in latencies), default=0.0),
        fuse_ms=max((latency.fuse_ms for latency in latencies), default=0.0),
        decode_ms=max((latency.decode_ms for latency in latencies), default=0.0),
    )
