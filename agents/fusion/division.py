"""Dividing the fusion among nodes: what each is asked in a tick, and one result from all their answers.

With regions the world is cut into squares, and every square has a fusion node of its own: as roadside computers have it, or a data
centre, not the ego. A node fuses in its square's frame what the agents around have sent, whoever they are, and answers for its
square alone. Which squares are in use follows from where agents are and have lately been: those that their maps reach into.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch

from heal.agents.options import RunOptions
from heal.agents.records import (
    NODE_AWAY,
    OUT_OF_RANGE,
    AgentReport,
    FusionOutcome,
    FusionRequest,
    HeldMap,
    MessageRecord,
    NodeLatency,
    Rejection,
    Sender,
)
from heal.agents.region import Region, region_frame, regions_in_reach
from heal.detection.boxes import corners_within_range, transform_corners
from heal.detection.decode import DecodeConfig, select_detections
from heal.detection.detections import Detections
from heal.grid import BevGrid
from heal.se3 import relative_SE3
from heal.types import Float64

Payload = TypeVar("Payload")
# Of several reasons the lowest counts: a node that is away might have used the message; who is far from one region is near another.
_RANK_OF_REASON = {NODE_AWAY: 0, OUT_OF_RANGE: 2}
_OTHER_REASON = 1
_SMALLEST_SHARE = 8


@dataclass(frozen=True)
class FusionTask(Generic[Payload]):
    """What one fusion node is asked for in a tick, and the messages that it is to read for it."""

    request: FusionRequest
    arrived: tuple[tuple[MessageRecord, Payload], ...]

    @property
    def senders(self) -> tuple[Sender, ...]:
        """Whose messages they are, and of which tick."""
        return tuple((record.agent_id, record.tick) for record, _ in self.arrived)


class Division(Protocol):
    """How fusion is divided. It remembers from tick to tick, and is told of them in their order."""

    def is_own(self, agent_id: str, ego_id: str) -> bool:
        """Whether the fusion node is on board of an agent, whose message then crosses no link."""
        ...

    def locate(self, request: FusionRequest, reports: Sequence[AgentReport]) -> tuple[str, ...]:
        """Learn where agents are in a tick, `request` being the whole one; returns those that went over to another node."""
        ...

    def share_out(
        self, request: FusionRequest, arrived: Sequence[tuple[MessageRecord, Payload]]
    ) -> tuple[FusionTask[Payload], ...]:
        """The tasks of a tick, each with those of its messages that matter to it."""
        ...

    def join(
        self,
        request: FusionRequest,
        tasks: Sequence[FusionTask[Any]],
        outcomes: Sequence[FusionOutcome | None],
        senders: Sequence[Sender],
    ) -> FusionOutcome | None:
        """The result of a tick.

        Args:
            request: of the whole.
            tasks: as shared out.
            outcomes: of each task; None where its node did not answer.
            senders: of all messages that have arrived.

        Returns:
            None if no node has answered.
        """
        ...


class Undivided:
    """One fusion node, on board of the ego, with the ego's frame and all messages."""

    def is_own(self, agent_id: str, ego_id: str) -> bool:
        """The ego's is read on board."""
        return agent_id == ego_id

    def locate(self, request: FusionRequest, reports: Sequence[AgentReport]) -> tuple[str, ...]:
        """Nobody goes over."""
        return ()

    def share_out(
        self, request: FusionRequest, arrived: Sequence[tuple[MessageRecord, Payload]]
    ) -> tuple[FusionTask[Payload], ...]:
        """Everything to the one."""
        return (FusionTask(request, tuple(arrived)),)

    def join(
        self,
        request: FusionRequest,
        tasks: Sequence[FusionTask[Any]],
        outcomes: Sequence[FusionOutcome | None],
        senders: Sequence[Sender],
    ) -> FusionOutcome | None:
        """Its answer."""
        return outcomes[0]


@dataclass(frozen=True)
class _Sighting:
    """Where an agent was: in which region, and which ones its map reached into that were within its range of communication."""

    agent_id: str
    timestamp_ns: int
    sequence: str
    world_SE3_agent: Float64
    home: Region
    reached: frozenset[Region]


class Regions:
    """A fusion node for every region.

    Agents are followed by their true positions, as a network follows phones from cell to cell; their maps lie where their messages
    say. A message goes to all regions that its sender's map reaches into now, or did within the last `max_age_ms`: there it takes
    the place of the older map, even if only to say that its sender has left.
    """

    def __init__(self, region_m: float, options: RunOptions, grid: BevGrid, decode: DecodeConfig) -> None:
        """For one run.

        Args:
            region_m: edge of a region.
            options: of the run.
            grid: of all maps; a region must lie inside of the map of its node.
            decode: what counts as a detection, in a region and in the joint result.

        Raises:
            ValueError: for regions that are too large for the grid, or so small that a node would hardly do anything but overlap.
        """
        extents_m = sorted((grid.length_x_m, grid.length_y_m))
        smallest_m, largest_m = extents_m[1] / _SMALLEST_SHARE, extents_m[0] / math.sqrt(2)
        if not smallest_m <= region_m <= largest_m:
            raise ValueError(
                f"region_m: expected {smallest_m:.1f} to {largest_m:.1f} m with this alliance's grid of {grid.length_x_m:g} x "
                f"{grid.length_y_m:g} m, for a region must lie inside of its fusion node's map however turned, got {region_m:g}"
            )
        self._edge_m, self._options, self._grid, self._decode = region_m, options, grid, decode
        self._sightings: list[_Sighting] = []

    def is_own(self, agent_id: str, ego_id: str) -> bool:
        """No node is on board of anyone."""
        return False

    def locate(self, request: FusionRequest, reports: Sequence[AgentReport]) -> tuple[str, ...]:
        """Note where agents are; those whose region is another one than when they were last seen."""
        homes = self._homes(request.sequence)
        seen = [self._sighting(request, report) for report in reports]
        self._sightings += seen
        return tuple(one.agent_id for one in seen if homes.get(one.agent_id, one.home) != one.home)

    def share_out(
        self, request: FusionRequest, arrived: Sequence[tuple[MessageRecord, Payload]]
    ) -> tuple[FusionTask[Payload], ...]:
        """A task for every region that is in use, in the order of rows within columns."""
        self._sightings = [one for one in self._sightings if self._is_fresh(one, request)]
        around: dict[Region, dict[str, Float64]] = {}
        for one in sorted(self._sightings, key=lambda one: one.timestamp_ns):
            for region in one.reached:
                around.setdefault(region, {})[one.agent_id] = one.world_SE3_agent
        return tuple(
            FusionTask(
                _request_of(request, region, around[region]), tuple(pair for pair in arrived if pair[0].agent_id in around[region])
            )
            for region in sorted(around)
        )

    def join(
        self,
        request: FusionRequest,
        tasks: Sequence[FusionTask[Any]],
        outcomes: Sequence[FusionOutcome | None],
        senders: Sequence[Sender],
    ) -> FusionOutcome | None:
        """The boxes of all regions in the ego's frame, each vehicle once, cut to the grid's range around the ego."""
        answered = [(task, outcome) for task, outcome in zip(tasks, outcomes, strict=True) if outcome is not None]
        if tasks and not answered:
            return None
        used = {agent_id for _, outcome in answered for agent_id in outcome.used}
        return FusionOutcome(
            tick=request.tick,
            detections=self._union(request, answered),
            used=tuple(sorted(used, key=lambda agent_id: (agent_id != request.ego_id, agent_id))),
            held=_held([held for _, outcome in answered for held in outcome.held], used),
            rejected=_turned_down(tasks, outcomes, senders),
            latency=_slowest([outcome.latency for _, outcome in answered]),
        )

    def _homes(self, sequence: str) -> Mapping[str, Region]:
        """The region in which each agent was seen last."""
        known = sorted((one for one in self._sightings if one.sequence == sequence), key=lambda one: one.timestamp_ns)
        return {one.agent_id: one.home for one in known}

    def _sighting(self, request: FusionRequest, report: AgentReport) -> _Sighting:
        pose, limit_m = report.world_SE3_agent, self._options.comm_range_m
        reached = regions_in_reach(pose, self._grid, self._edge_m)
        near = frozenset(region for region in reached if region.distance_m(pose) <= limit_m)
        return _Sighting(report.agent_id, request.timestamp_ns, request.sequence, pose, Region.at(pose, self._edge_m), near)

    def _is_fresh(self, sighting: _Sighting, request: FusionRequest) -> bool:
        age_ms = abs(request.timestamp_ns - sighting.timestamp_ns) / 1e6
        return sighting.sequence == request.sequence and age_ms <= self._options.max_age_ms

    def _union(self, request: FusionRequest, answered: Sequence[tuple[FusionTask[Any], FusionOutcome]]) -> Detections:
        """One suppression over all regions' boxes: what lies on a border is found on both sides of it."""
        range_m = self._grid.range_m
        corners, scores = [Detections.empty().corners], [Detections.empty().scores]
        for task, outcome in answered:
            ego_SE3_region = torch.from_numpy(relative_SE3(request.world_SE3_frame, task.request.world_SE3_frame))
            moved = transform_corners(ego_SE3_region, outcome.detections.corners.double()).float()
            # What lies wholly beyond the range excludes nothing inside, and a city full of it would crowd out the candidates.
            near = corners_within_range(moved, range_m, use_z=False, minimum_corners=1)
            corners.append(moved[near])
            scores.append(outcome.detections.scores[near])
        return select_detections(torch.cat(corners), torch.cat(scores), self._decode, range_m)


def divide(options: RunOptions, grid: BevGrid, decode: DecodeConfig) -> Division:
    """How a run's fusion is divided; arguments as in `Regions`."""
    return Undivided() if options.region_m is None else Regions(options.region_m, options, grid, decode)


def node_of(region: Region | None, nodes: int) -> int:
    """Which of several actors a region is on: always the same one, and another one than the regions beside it."""
    return 0 if region is None else (region.column + region.row) % nodes


def _request_of(request: FusionRequest, region: Region, world_SE3_agents: Mapping[str, Float64]) -> FusionRequest:
    """A region's part of a request, in a frame that fits the agents around it."""
    frame = region_frame(region, list(world_SE3_agents.values()))
    return FusionRequest(request.tick, request.timestamp_ns, request.sequence, "", frame, region)


def _held(maps: Sequence[HeldMap], used: set[str]) -> tuple[HeldMap, ...]:
    """Each agent's newest map that stood in somewhere, unless its own one of the tick was used."""
    newest: dict[str, HeldMap] = {}
    for held in sorted(maps, key=lambda one: (one.agent_id, one.age_ms)):
        if held.agent_id not in used:
            newest.setdefault(held.agent_id, held)
    return tuple(newest.values())


def _turned_down(
    tasks: Sequence[FusionTask[Any]], outcomes: Sequence[FusionOutcome | None], senders: Sequence[Sender]
) -> tuple[Rejection, ...]:
    """The messages that no region used, each with one reason."""
    objections: dict[Sender, list[Rejection | None]] = {sender: [] for sender in senders}
    for task, outcome in zip(tasks, outcomes, strict=True):
        said = {} if outcome is None else {(rejection.agent_id, rejection.tick): rejection for rejection in outcome.rejected}
        for sender in task.senders:
            away = Rejection(*sender, NODE_AWAY, f"of region {task.request.region}")
            objections[sender].append(away if outcome is None else said.get(sender))
    return tuple(_foremost(sender, [one for one in found if one]) for sender, found in objections.items() if None not in found)


def _foremost(sender: Sender, objections: Sequence[Rejection]) -> Rejection:
    nowhere = Rejection(*sender, OUT_OF_RANGE, "no region in use is in range")
    return min(objections, key=lambda one: _RANK_OF_REASON.get(one.reason, _OTHER_REASON), default=nowhere)


def _slowest(latencies: Sequence[NodeLatency]) -> NodeLatency:
    """The longest time of each stage, as the regions' nodes work beside each other."""
    return NodeLatency(
        unpack_ms=max((latency.unpack_ms for latency in latencies), default=0.0),
        fuse_ms=max((latency.fuse_ms for latency in latencies), default=0.0),
        decode_ms=max((latency.decode_ms for latency in latencies), default=0.0),
    )
