"""The fusion node: reads the messages of a tick, rejects the unusable ones, fuses the maps in one frame and decodes boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import monotonic, perf_counter

import numpy as np
import torch

from heal.agents.fusion.map_memory import KnownMap, MapMemory, age_ms
from heal.agents.fusion.map_reader import MapReader
from heal.agents.options import RunOptions
from heal.agents.records import OUT_OF_RANGE, Arrival, FusionOutcome, FusionRequest, HeldMap, NodeLatency, Rejection
from heal.base_model import BaseModel
from heal.detection.boxes import transform_corners
from heal.detection.decode import decode
from heal.detection.detections import Detections
from heal.detection.head import HeadOutput
from heal.fusion.pose_correction import corrected_poses, find_peaks
from heal.message.message import Message, MessageError
from heal.se3 import relative_SE3
from heal.types import Float64

BORDER_M = 1.0
"""A region's node also returns boxes with a centre up to this far beyond the region's border.

The nodes of two regions place a vehicle on their common border some centimetres apart, and each node may place the vehicle beyond
the border. Where the regions' results are joined, the better of two boxes of one vehicle is kept.
"""

_EVERYWHERE = (-math.inf,) * 3 + (math.inf,) * 3


class FusionNode:
    """Fuses the maps of agents around the ego or in a region. Bad messages are rejected; no message raises an error."""

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
        self._base, self._base_hash, self._options = base.to(self._device), base_hash, options
        self._anchors = base.anchors()
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
        head = self._fuse(request, world_SE3_frame, chosen) if chosen else None
        fused = perf_counter()
        detections = Detections.empty() if head is None else self._decode(head, request)
        decoded = perf_counter()
        return FusionOutcome(
            tick=request.tick,
            detections=detections,
            used=tuple(known.agent_id for known in chosen if known.tick == request.tick),
            held=tuple(self._held_map(known, request) for known in chosen if known.tick != request.tick),
            rejected=(*rejected, *far),
            latency=NodeLatency((unpacked - started) * 1e3, (fused - unpacked) * 1e3, (decoded - fused) * 1e3, began_s),
        )

    def _store_maps(self, request: FusionRequest, arrivals: Sequence[Arrival]) -> list[Rejection]:
        """Store the maps of usable messages in the memory, and return a rejection for each of the other messages."""
        rejected = []
        for arrival in arrivals:
            try:
                message = self._reader.read_message(arrival)
            except MessageError as error:
                rejected.append(Rejection(arrival.agent_id, arrival.tick, "malformed", str(error)))
                continue
            problem = self._problem(request, arrival, message)
            if problem is None:
                self._memory.keep(self._reader.read_map(arrival, message))
            else:
                rejected.append(Rejection(arrival.agent_id, arrival.tick, *problem))
        return rejected

    def _problem(self, request: FusionRequest, arrival: Arrival, message: Message) -> tuple[str, str] | None:
        """Return the reason and the detail of a message's rejection, None for a usable message; the cheap checks come first."""
        if message.agent_id != arrival.agent_id:
            return "wrong sender", f"claims to be from {message.agent_id!r}"
        if message.base_hash != self._base_hash:
            return "other base", f"made for base {message.base_hash[:12]}, this is {self._base_hash[:12]}"
        mismatch = self._mismatch(message)
        if mismatch is not None:
            return mismatch
        age = (request.timestamp_ns - message.timestamp_ns) / 1e6
        if abs(age) > self._options.max_age_ms:
            return "stale", f"its time is {age:.0f} ms before the tick's, allowed are {self._options.max_age_ms:g}"
        newest = self._memory.newest(message.agent_id)
        if newest is not None and newest.tick == arrival.tick:
            return "duplicate", "a second message for one tick"
        if newest is not None and newest.timestamp_ns >= message.timestamp_ns:
            return "superseded", "a newer message has come before it"
        if not all(math.isfinite(part.min()) and math.isfinite(part.max()) for part in message.maps):
            return "not finite", "the feature map holds infinities or NaN"
        return None

    def _mismatch(self, message: Message) -> tuple[str, str] | None:
        """Return the reason and the detail of a rejection if the split, the grid or the shapes are not those of the run."""
        base, split = self._base.config, self._options.split
        if message.split != split:
            return "other split", f"split {message.split}, this run has {split}"
        shapes = [part.shape for part in message.maps]
        expected = (
            self._base.pyramid_backbone.level_shapes() if split == "pyramid" else [(base.in_channels, base.grid.ny, base.grid.nx)]
        )
        if message.grid != base.grid or shapes != expected:
            return "other grid", f"maps {shapes} on {message.grid}, expected {expected} on {base.grid}"
        return None

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
            return self._base.heads(self._base.fuse_scored(maps, scores, poses, [len(chosen)], trust))

    def _poses(self, request: FusionRequest, world_SE3_frame: Float64, chosen: Sequence[KnownMap]) -> list[Float64]:
        """Return `agent_SE3_frame` for each map: corrected if the ego's own map of this tick is among them, else as measured."""
        measured, first = [relative_SE3(known.world_SE3_agent, world_SE3_frame) for known in chosen], chosen[0]
        without_reference = len(chosen) == 1 or first.agent_id != request.ego_id or first.tick != request.tick
        if without_reference or not self._options.correct_poses:
            return measured
        return corrected_poses([find_peaks(known.scores[0], self._base.config.grid) for known in chosen], measured)

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
