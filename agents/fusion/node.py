"""The fusion node: reads the messages of a tick, rejects the unusable ones, fuses the maps in one frame and decodes boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter

import numpy as np
import torch

from heal.agents.fusion.admission import Admission, Problem
from heal.agents.fusion.map_memory import KnownMap, MapMemory, age_ms
from heal.agents.fusion.map_reader import MapReader
from heal.agents.options import RunOptions
from heal.agents.records import OUT_OF_RANGE, Arrival, FusionOutcome, FusionRequest, HeldMap, NodeLatency, Rejection
from heal.base_model import BaseModel
from heal.detection.boxes import transform_corners
from heal.detection.decode import decode
from heal.detection.detections import Detections
from heal.detection.head import HeadOutput
from heal.fusion.pose_correction import corrected_poses, find_peaks, pose_corrections
from heal.message.message import MessageError
from heal.se3 import inverse_SE3, relative_SE3
from heal.types import Float64

BORDER_M = 1.0
"""A region's node also returns boxes with a centre up to this far beyond the region's border.

The nodes of two regions place a vehicle on their common border some centimetres apart, and each node may place the vehicle beyond
the border. Where the regions' results are joined, the better of two boxes of one vehicle is kept.
"""

FUSION_FAILED, LEFT_OUT = "fusion failed", "left out"
"""Reasons of rejections: reading or fusing the map raised an error; the map was fine, but the fusion failed with another map."""

_MAX_DETAIL = 200
_EVERYWHERE = (-math.inf,) * 3 + (math.inf,) * 3


@dataclass(frozen=True)
class _Found:
    """The detections of a tick, the maps that were fused for them, and the time that decoding took."""

    detections: Detections
    fused: tuple[KnownMap, ...]
    decode_ms: float


class FusionNode:
    """Fuses the maps of agents around the ego or in a region. Bad messages are rejected, and no message raises an error."""

    def __init__(
        self,
        base: BaseModel,
        base_hash: str,
        options: RunOptions,
        device: torch.device | str = "cpu",
        reader: MapReader | None = None,
    ) -> None:
        """Make a fusion node that holds no maps yet.

        Args:
            base: the base, in eval mode.
            base_hash: content hash of the base; messages for another base are rejected.
            options: of the run.
            device: on which the node computes.
            reader: a reader of messages that several nodes share; None for a reader of the node's own.
        """
        self._device = torch.device(device)
        self._base, self._options = base.to(self._device), options
        self._anchors = base.anchors()
        self._admission = Admission(base, base_hash, options)
        self._memory = MapMemory(options)
        self._reader = reader or MapReader(self._base, self._device, options)

    def step(self, request: FusionRequest, arrivals: Sequence[Arrival]) -> FusionOutcome:
        """Fuse the maps of one tick and decode boxes.

        Without the ego's own message the other maps are fused in the ego's frame all the same; without any map there are no boxes.
        """
        began_s, started = monotonic(), perf_counter()
        self._memory.begin_tick(request)
        rejected = self._store_maps(request, arrivals)
        self._memory.release_messages(request)
        world_SE3_frame, chosen, far = self._choose_maps(request)
        unpacked = perf_counter()
        found, failed = self._find(request, world_SE3_frame, chosen)
        found_ms = (perf_counter() - unpacked) * 1e3
        return FusionOutcome(
            tick=request.tick,
            detections=found.detections,
            used=tuple(known.agent_id for known in found.fused if known.tick == request.tick),
            held=tuple(self._held_map(known, request) for known in found.fused if known.tick != request.tick),
            rejected=(*rejected, *far, *failed),
            latency=NodeLatency((unpacked - started) * 1e3, found_ms - found.decode_ms, found.decode_ms, began_s),
        )

    def _store_maps(self, request: FusionRequest, arrivals: Sequence[Arrival]) -> list[Rejection]:
        """Store the maps of usable messages in the memory, and return a rejection for each of the other messages."""
        rejected = []
        for arrival in arrivals:
            try:
                problem = self._store_map(request, arrival)
            except MessageError as error:
                problem = "malformed", str(error)
            except Exception as error:  # noqa: BLE001 - whatever one message does, the others are fused
                problem = FUSION_FAILED, _described(error)
            if problem is not None:
                rejected.append(Rejection(arrival.agent_id, arrival.tick, *problem))
        return rejected

    def _store_map(self, request: FusionRequest, arrival: Arrival) -> Problem | None:
        """Store the map of a usable message; return the reason and the detail of another's rejection. The cheap checks come first.

        Raises:
            MessageError: the bytes are not a message.
        """
        unread = self._reader.open_message(arrival)
        newest = self._memory.newest(unread.header.agent_id)
        problem = self._admission.problem(request, arrival, unread.header, newest)
        if problem is not None:
            return problem
        message = self._reader.read_message(arrival, unread)
        if not all(math.isfinite(part.min()) and math.isfinite(part.max()) for part in message.maps):
            return "not finite", "the feature map holds infinities or NaN"
        self._memory.keep(self._reader.read_map(arrival, message))
        return None

    def _find(self, request: FusionRequest, world_SE3_frame: Float64, chosen: Sequence[KnownMap]) -> tuple[_Found, list[Rejection]]:
        """Fuse the chosen maps and decode boxes; if that raises an error, use the ego's own map alone, or no map if there is none.

        After an error all other maps are forgotten, so that no map that is held causes the error again in the next tick.

        Returns:
            The detections with the maps that were fused, and rejections of the maps that were set aside.
        """
        try:
            return self._find_in(request, world_SE3_frame, chosen), []
        except Exception as error:  # noqa: BLE001 - the last line of defence: the error is counted, and the run goes on
            problem = _described(error)
        own = [known for known in chosen if known.agent_id == request.ego_id]
        others = [known for known in chosen if known.agent_id != request.ego_id]
        self._memory.forget(others or own)
        rejected = _set_aside(request, others or own, problem)
        found, more = self._find(request, world_SE3_frame, own if others else [])
        return found, [*rejected, *more]

    def _find_in(self, request: FusionRequest, world_SE3_frame: Float64, maps: Sequence[KnownMap]) -> _Found:
        """Fuse maps and decode boxes; without any map there are no boxes."""
        if not maps:
            return _Found(Detections.empty(), (), 0.0)
        head = self._fuse(request, world_SE3_frame, maps)
        fused = perf_counter()
        detections = self._decode(head, request)
        return _Found(detections, tuple(maps), (perf_counter() - fused) * 1e3)

    def _choose_maps(self, request: FusionRequest) -> tuple[Float64, list[KnownMap], list[Rejection]]:
        """Choose the maps to fuse in a tick, and the frame.

        Returns:
            The frame `world_SE3_frame`: the ego's measured pose if the ego's message of this tick is there, else the request's
            frame. The maps of agents in communication range. A rejection for each message of this tick from an agent that is out of
            range.
        """
        maps = self._memory.in_order(request)
        own = [known for known in maps if known.agent_id == request.ego_id and known.tick == request.tick]
        world_SE3_frame = own[0].world_SE3_agent if own else request.world_SE3_frame
        near, far = [], []
        for known in maps:
            distance_m = self._distance_m(known, request, world_SE3_frame)
            if known.agent_id == request.ego_id or distance_m <= self._options.comm_range_m:
                near.append(known)
            elif known.tick == request.tick:
                far.append(self._out_of_range(known, request, distance_m))
        return world_SE3_frame, near, far

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

    def _fuse(self, request: FusionRequest, world_SE3_frame: Float64, chosen: Sequence[KnownMap]) -> HeadOutput:
        poses = torch.from_numpy(np.stack(self._poses(request, world_SE3_frame, chosen)))
        maps = list(zip(*(known.maps for known in chosen), strict=True))
        scores = list(zip(*(known.scores for known in chosen), strict=True))
        weights = [self._memory.weight(known, request) for known in chosen]
        trust = None if all(weight == 1 for weight in weights) else torch.tensor(weights)
        with torch.no_grad(), self._options.autocast(self._device.type):
            head = self._base.heads(self._base.fuse_scored(maps, scores, poses, [len(chosen)], trust))
        if not all(bool(part.isfinite().all()) for part in (head.classification, head.regression, head.direction)):
            raise ArithmeticError("the output of the heads is not finite")
        return head

    def _poses(self, request: FusionRequest, world_SE3_frame: Float64, chosen: Sequence[KnownMap]) -> list[Float64]:
        """Return `agent_SE3_frame` for each map, corrected if the run corrects poses.

        Around the ego, poses are corrected relative to the ego's own map of this tick, and stay as measured without it. In a region
        no agent is the reference: all agents move to their most probable poses in the world.
        """
        measured, first = [relative_SE3(known.world_SE3_agent, world_SE3_frame) for known in chosen], chosen[0]
        has_reference = first.agent_id == request.ego_id and first.tick == request.tick
        if len(chosen) == 1 or not self._options.correct_poses or not (has_reference or request.region):
            return measured
        peaks = [find_peaks(known.scores[0], self._base.config.grid) for known in chosen]
        if request.region is None:
            return corrected_poses(peaks, measured)
        motions = pose_corrections(peaks, [inverse_SE3(pose) for pose in measured])
        if motions is None:
            return measured
        return [pose @ inverse_SE3(motion) for pose, motion in zip(measured, motions, strict=True)]

    def _decode(self, head: HeadOutput, request: FusionRequest) -> Detections:
        """Return the boxes wholly on the grid; for a region the boxes whose centre is in the region or up to `BORDER_M` beyond."""
        base = self._base.config
        with torch.no_grad():
            if request.region is None:
                return decode(head, self._anchors, base.decode, base.grid.range_m)
            found = decode(head, self._anchors, base.decode, _EVERYWHERE)
            centres = transform_corners(torch.from_numpy(request.world_SE3_frame), found.boxes[:, :3].double())
            off_m = (centres[:, :2] - centres.new_tensor(request.region.centre_m)).abs()
            return found.select((off_m <= request.region.edge_m / 2 + BORDER_M).all(dim=1))


def _described(error: Exception) -> str:
    """Return the name of an error and the first line of its text, for the detail of a rejection."""
    return f"{type(error).__name__}: {error}".partition("\n")[0][:_MAX_DETAIL]


def _set_aside(request: FusionRequest, maps: Sequence[KnownMap], problem: str) -> list[Rejection]:
    """Return the rejections after a failed fusion: of the newest map for the failure, and of the tick's other maps as left out."""
    newest = max(maps, key=lambda known: (known.tick, known.timestamp_ns, known.agent_id))
    left_out = [known for known in maps if known is not newest and known.tick == request.tick]
    detail = f"the fusion failed with the map of {newest.agent_id!r}"
    return [
        Rejection(newest.agent_id, newest.tick, FUSION_FAILED, problem),
        *(Rejection(known.agent_id, known.tick, LEFT_OUT, detail) for known in left_out),
    ]
