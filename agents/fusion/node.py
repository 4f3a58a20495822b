"""The fusion node: reads the messages of a tick, rejects the unusable ones, and fuses the others in one frame to boxes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter

import numpy as np
import torch

from heal.agents.fusion.admission import SUPERSEDED, Admission, Problem
from heal.agents.fusion.defence import defence_of
from heal.agents.fusion.guard import Trial, guard_of
from heal.agents.fusion.item_fusion import BoxFusion, PointFusion
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.map_memory import KnownMap, MapMemory, age_ms
from heal.agents.fusion.map_reader import MapReader
from heal.agents.fusion.plausible import unusable_numbers
from heal.agents.fusion.sender_check import SenderCheck
from heal.agents.fusion.setting_aside import FUSION_FAILED, described, set_aside
from heal.agents.fusion.suspicion import Suspicion
from heal.agents.fusion.tick_fusion import FusionNetwork, MapFusion, TickFusion
from heal.agents.records import (
    OUT_OF_RANGE,
    Arrival,
    FusionOutcome,
    FusionRequest,
    GuardReport,
    HeldMap,
    NodeLatency,
    Rejection,
    Sender,
)
from heal.detection.detections import Detections
from heal.detection.guard import GuardConfig
from heal.identity.verifier import Refusal
from heal.message.message import MessageError
from heal.types import MAP_SPLITS, Float64, Split

BLAMED, BLIND = "blamed by the guard", "blind ego"
"""Reasons of rejections: the guard has left the map out of the tick; the run does not fuse the ego's own map."""

_FUSIONS: dict[Split, type[TickFusion]] = {"feature": MapFusion, "pyramid": MapFusion, "boxes": BoxFusion, "points": PointFusion}


@dataclass(frozen=True)
class _Found:
    """The detections of a tick, the maps that were fused for them, and those of the ego alone with what became of them."""

    detections: Detections
    fused: tuple[KnownMap, ...]
    alone: Detections | None = None
    guard: GuardReport | None = None


class FusionNode:
    """Fuses the maps of agents around the ego or in a region. Bad messages are rejected, and no message raises an error."""

    def __init__(self, known: NodeKnowledge, device: torch.device | str = "cpu", reader: MapReader | None = None) -> None:
        """Make a fusion node that holds no maps yet.

        Args:
            known: what it knows of the run and its alliance.
            device: on which the node computes.
            reader: a reader of messages that several nodes share; None for a reader of the node's own.
        """
        base, options, device = known.base, known.options, torch.device(device)
        self._network, self._options = FusionNetwork(base, device, options, known.encoders), options
        self._admission = Admission(base, known.base_hash, options, known.compressors)
        self._memory, self._trust, self._least_trust = MapMemory(options), dict(known.trust), 1.0
        self._suspicion = Suspicion(base.config.guard or GuardConfig())
        self._guard = guard_of(options, base.config, self._suspicion)
        self._defence = defence_of(options, base, known.statistics, self._suspicion)
        self._reader = reader or MapReader(base, device, options, known.compressors)
        self._senders = SenderCheck(known.allowed, options, self._reader)

    def step(self, request: FusionRequest, arrivals: Sequence[Arrival]) -> FusionOutcome:
        """Fuse the maps of one tick and decode boxes.

        Without the ego's own message the other maps are fused in the ego's frame all the same; without any map there are no boxes.
        """
        began_s, started, trunk_before_ms = monotonic(), perf_counter(), self._reader.trunk_ms
        self._trust.update(request.trust)
        self._least_trust = min(self._trust.values(), default=1.0)
        self._memory.begin_tick(request)
        self._suspicion.begin_tick(request)
        self._defence.begin_tick(request)
        new, rejected = self._store_maps(request, arrivals)
        self._memory.release_messages(request)
        world_SE3_frame, near, unused = self._choose_maps(request, new)
        chosen, disputed = self._undisputed(request, new, near)
        unpacked = perf_counter()
        fuse = _FUSIONS[self._options.split]
        fusion = fuse(self._network, request, world_SE3_frame, lambda known: self._weight(known, request))
        found, failed = self._find(request, fusion, self._defence.weighed(request, chosen), new)
        found_ms, trunk_ms = (perf_counter() - unpacked) * 1e3, self._reader.trunk_ms - trunk_before_ms
        return FusionOutcome(
            tick=request.tick,
            detections=found.detections,
            used=tuple(known.agent_id for known in found.fused if known.tick == request.tick),
            held=tuple(self._held_map(known, request) for known in found.fused if known.tick != request.tick),
            rejected=(*rejected, *unused, *disputed, *failed, *_blamed(new, chosen, found.guard)),
            latency=NodeLatency(
                unpack_ms=(unpacked - started) * 1e3 - trunk_ms,
                fuse_ms=trunk_ms + found_ms - fusion.decode_ms,
                decode_ms=fusion.decode_ms,
                began_s=began_s,
            ),
            alone=found.alone,
            guard=found.guard,
            used_sequences=self._senders.used_sequences(),
        )

    def _store_maps(self, request: FusionRequest, arrivals: Sequence[Arrival]) -> tuple[set[Sender], list[Rejection]]:
        """Store the maps of usable messages in the memory.

        Returns:
            The messages whose maps are new in the memory, and a rejection for each of the other messages.
        """
        new, rejected = set[Sender](), list[Rejection]()
        for arrival in arrivals:
            older = self._memory.newest(arrival.agent_id)
            try:
                problem = self._store_map(request, arrival)
            except MessageError as error:
                problem = "malformed", str(error)
            except Exception as error:  # noqa: BLE001 - whatever one message does, the others are fused
                problem = FUSION_FAILED, described(error)
            if problem is not None:
                rejected.append(Rejection(arrival.agent_id, arrival.tick, *problem))
                continue
            if older is not None and older.sender in new:
                new.remove(older.sender)
                rejected.append(Rejection(*older.sender, SUPERSEDED, "a newer message has come with it"))
            new.add((arrival.agent_id, arrival.tick))
        return new, rejected

    def _store_map(self, request: FusionRequest, arrival: Arrival) -> Problem | None:
        """Store the map of a usable message; return the reason and the detail of another's rejection. The cheap checks come first.

        Raises:
            MessageError: the bytes are not a message.
        """
        opened = self._senders.open_message(request, arrival)
        if isinstance(opened, Refusal):
            return opened
        arrival, unread = opened
        newest = self._memory.newest(unread.header.agent_id)
        problem, own = self._admission.problem(request, arrival, unread.header, newest), arrival.agent_id == request.ego_id
        if problem is None and not own:
            problem = self._defence.header_problem(unread.header)
        if problem is not None:
            return problem
        message = self._reader.read_message(arrival, unread)
        problem = unusable_numbers(message, self._network.base.detection.classes)
        if problem is not None:
            return problem
        known = self._reader.read_map(arrival, message)
        problem = None if own else self._defence.map_problem(unread.header, message, known)
        if problem is None:
            self._memory.keep(known)
        return problem

    def _find(
        self, request: FusionRequest, fusion: TickFusion, chosen: Sequence[KnownMap], new: Collection[Sender]
    ) -> tuple[_Found, list[Rejection]]:
        """Fuse the chosen maps and decode boxes; if that raises an error, set maps aside until it does not.

        The maps that are set aside are forgotten, so that no map that is held causes the error again in the next tick.

        Returns:
            The detections with the maps that were fused, and rejections of the maps that were set aside.
        """
        try:
            return self._find_in(request, fusion, chosen), []
        except Exception as error:  # noqa: BLE001 - the last line of defence: the error is counted, and the run goes on
            gone, rejected = set_aside(request, new, chosen, fusion.detect, described(error))
        self._memory.forget(gone)
        found, more = self._find(request, fusion, [known for known in chosen if known not in gone], new)
        return found, [*rejected, *more]

    def _find_in(self, request: FusionRequest, fusion: TickFusion, maps: Sequence[KnownMap]) -> _Found:
        """Fuse maps and decode boxes, under the eyes of the guard if the ego's map of this tick is there.

        Without any map there are no boxes.
        """
        if not maps:
            return _Found(Detections.empty(), ())
        fused = Trial(tuple(maps), fusion.detect(maps))
        has_ego = (maps[0].agent_id, maps[0].tick) == (request.ego_id, request.tick)
        alone = _alone(fusion, fused) if has_ego else None
        if alone is None:
            return _Found(fused.detections, fused.maps)
        verdict = self._guard.judge(alone, fused, fusion.detect)
        return _Found(verdict.detections, verdict.maps, alone, verdict.report)

    def _weight(self, known: KnownMap, request: FusionRequest) -> float:
        """Return the factor on the weight of a map: by its age, the trust in its type, and the suspicion of its sender.

        Trust is calibrated for maps, and counts for nothing else.
        """
        trust = self._trust.get(known.agent_type, self._least_trust) if self._options.split in MAP_SPLITS else 1.0
        factor = self._memory.weight(known, request) * trust
        return factor if known.agent_id == request.ego_id else factor * self._suspicion.factor(known.agent_id)

    def _choose_maps(self, request: FusionRequest, new: Collection[Sender]) -> tuple[Float64, list[KnownMap], list[Rejection]]:
        """Choose the maps to fuse in a tick, and the frame.

        Returns:
            The frame `world_SE3_frame`: the ego's measured pose if the ego's message of this tick is there, else the request's
            frame. The maps of agents in communication range. A rejection for each other message that has come in this tick: from
            an agent that is out of range, or from an ego that is blind in this run.
        """
        maps = self._memory.in_order(request)
        own = [known for known in maps if known.agent_id == request.ego_id and known.tick == request.tick]
        world_SE3_frame = own[0].world_SE3_agent if own else request.world_SE3_frame
        near, unused = [], []
        for known in maps:
            distance_m = self._distance_m(known, request, world_SE3_frame)
            if known.agent_id == request.ego_id and self._options.blind_ego:
                unused += [Rejection(*known.sender, BLIND, "")] if known.sender in new else []
            elif known.agent_id == request.ego_id or distance_m <= self._options.comm_range_m:
                near.append(known)
            elif known.sender in new:
                unused.append(self._out_of_range(known, request, distance_m))
        return world_SE3_frame, near, unused

    def _undisputed(
        self, request: FusionRequest, new: Collection[Sender], maps: Sequence[KnownMap]
    ) -> tuple[list[KnownMap], list[Rejection]]:
        """Return the maps that the ego does not dispute, and a rejection for each other one that is new."""
        disputed = self._defence.disputed(request, maps)
        others = [known for known in maps if known.agent_id in disputed]
        rejected = [Rejection(*known.sender, *disputed[known.agent_id]) for known in others if known.sender in new]
        return [known for known in maps if known.agent_id not in disputed], rejected

    def _out_of_range(self, known: KnownMap, request: FusionRequest, distance_m: float) -> Rejection:
        centre = "the ego" if request.region is None else f"region {request.region}"
        detail = f"{distance_m:.0f} m from {centre}, allowed are {self._options.comm_range_m:g}"
        return Rejection(known.agent_id, known.tick, OUT_OF_RANGE, detail)

    def _distance_m(self, known: KnownMap, request: FusionRequest, world_SE3_frame: Float64) -> float:
        """Return the distance in the plane from an agent to the region's nearest point, or to the ego without a region."""
        if request.region is not None:
            return request.region.distance_m(known.world_SE3_agent)
        return float(np.hypot(*(known.world_SE3_agent[:2, 3] - world_SE3_frame[:2, 3])))

    def _held_map(self, known: KnownMap, request: FusionRequest) -> HeldMap:
        return HeldMap(known.agent_id, age_ms(known, request), self._memory.weight(known, request))


def _alone(fusion: TickFusion, fused: Trial) -> Detections | None:
    """Return the boxes of the ego's map, the first of a trial, alone; None if they cannot be computed."""
    if len(fused.maps) == 1:
        return fused.detections
    try:
        return fusion.detect(fused.maps[:1])
    except Exception:  # noqa: BLE001 - the maps together gave boxes, which count without a comparison
        return None


def _blamed(new: Collection[Sender], maps: Sequence[KnownMap], report: GuardReport | None) -> list[Rejection]:
    """Return a rejection for each new message that the guard has left out."""
    if report is None:
        return []
    detail = f"with its map the fusion keeps too few of the ego's {report.confident} confident boxes"
    return [Rejection(*known.sender, BLAMED, detail) for known in maps if known.agent_id in report.blamed and known.sender in new]
