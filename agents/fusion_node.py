"""The fusion node: takes what arrived in a tick, turns down what it cannot use, fuses the rest in the ego's frame, finds boxes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from heal.agents.records import Arrival, FusionOutcome, FusionRequest, NodeLatency, Rejection, RunOptions
from heal.base_model import BaseModel, BaseOutput
from heal.decode import decode
from heal.detections import Detections
from heal.head import HeadOutput
from heal.message import Message, MessageError
from heal.se3 import relative_SE3
from heal.types import Float64

OUT_OF_RANGE = "out of range"


class FusionNode:
    """Fuses whatever it is given; no message, however bad, stops it."""

    def __init__(self, base: BaseModel, base_hash: str, options: RunOptions) -> None:
        """Set up for one base.

        Args:
            base: in eval mode.
            base_hash: messages made for another base are rejected.
            options: comm_range_m and max_age_ms are used here.
        """
        self._base, self._base_hash, self._options = base, base_hash, options
        self._anchors = base.anchors()

    def step(self, request: FusionRequest, arrivals: Sequence[Arrival]) -> FusionOutcome:
        """Fuse one tick.

        Where the ego's own message is missing the others are fused in its frame all the same; without any message nothing is found.
        """
        started = perf_counter()
        messages, rejected = self._admit(request, arrivals)
        features = _stack(messages) if messages else None
        unpacked = perf_counter()
        head = None if features is None else self._fuse(features, request, messages)
        fused = perf_counter()
        detections = Detections.empty() if head is None else self._decode(head)
        decoded = perf_counter()
        latency = NodeLatency((unpacked - started) * 1e3, (fused - unpacked) * 1e3, (decoded - fused) * 1e3)
        return FusionOutcome(request.tick, detections, tuple(message.agent_id for message in messages), tuple(rejected), latency)

    def _admit(self, request: FusionRequest, arrivals: Sequence[Arrival]) -> tuple[list[Message], list[Rejection]]:
        """The messages fit for use, the ego's first, and why the others are not."""
        admitted: dict[str, Message] = {}
        rejected = []
        for arrival in sorted(arrivals, key=lambda arrival: arrival.agent_id != request.ego_id):
            try:
                message = Message.from_bytes(arrival.buffer)
            except MessageError as error:
                rejected.append(Rejection(arrival.agent_id, "malformed", str(error)))
                continue
            ego = admitted.get(request.ego_id)
            world_SE3_ego = request.world_SE3_ego if ego is None else ego.world_SE3_agent
            objection = self._objection(request, arrival, message, admitted) or self._too_far(world_SE3_ego, request, message)
            if objection is None:
                admitted[message.agent_id] = message
            else:
                rejected.append(objection)
        return list(admitted.values()), rejected

    def _objection(self, request: FusionRequest, arrival: Arrival, message: Message, admitted: Collection[str]) -> Rejection | None:
        """What is wrong with a message in itself; the cheap tests come first."""
        sender, base = arrival.agent_id, self._base.config
        if message.agent_id != sender:
            return Rejection(sender, "wrong sender", f"claims to be from {message.agent_id!r}")
        if message.agent_id in admitted:
            return Rejection(sender, "duplicate", "a second message for one tick")
        if message.base_hash != self._base_hash:
            return Rejection(sender, "other base", f"made for base {message.base_hash[:12]}, this is {self._base_hash[:12]}")
        if message.grid != base.grid or len(message.features) != base.in_channels:
            found = f"{len(message.features)} channels on {message.grid}"
            return Rejection(sender, "other grid", f"{found}, expected {base.in_channels} on {base.grid}")
        age_ms = (request.timestamp_ns - message.timestamp_ns) / 1e6
        if abs(age_ms) > self._options.max_age_ms:
            return Rejection(
                sender, "stale", f"its time is {age_ms:.0f} ms before the tick's, allowed are {self._options.max_age_ms:g}"
            )
        if not np.isfinite(message.features).all():
            return Rejection(sender, "not finite", "the feature map holds infinities or NaN")
        return None

    def _too_far(self, world_SE3_ego: Float64, request: FusionRequest, message: Message) -> Rejection | None:
        offset_m = message.world_SE3_agent[:2, 3] - world_SE3_ego[:2, 3]
        distance_m = float(np.hypot(*offset_m))
        if message.agent_id == request.ego_id or distance_m <= self._options.comm_range_m:
            return None
        return Rejection(
            message.agent_id, OUT_OF_RANGE, f"{distance_m:.0f} m from the ego, allowed are {self._options.comm_range_m:g}"
        )

    def _fuse(self, features: Tensor, request: FusionRequest, messages: Sequence[Message]) -> HeadOutput:
        poses, coverage = torch.from_numpy(_agent_SE3_ego(request, messages)), [message.coverage for message in messages]
        with torch.no_grad():
            output: BaseOutput = self._base(features, poses, [len(features)], coverage)
        return output.head

    def _decode(self, head: HeadOutput) -> Detections:
        with torch.no_grad():
            return decode(head, self._anchors, self._base.config.decode, self._base.config.grid.range_m)


def _stack(messages: Sequence[Message]) -> Tensor:
    """The feature maps (M, C, ny, nx), copied once, from where they were received to where the network reads them."""
    features = torch.empty(len(messages), *messages[0].features.shape)
    for row, message in zip(features.numpy(), messages, strict=True):
        row[:] = message.features
    return features


def _agent_SE3_ego(request: FusionRequest, messages: Sequence[Message]) -> Float64:
    """(M, 4, 4) ego coordinates into each sender's frame, from the poses that they measured."""
    world_SE3_ego = messages[0].world_SE3_agent if messages[0].agent_id == request.ego_id else request.world_SE3_ego
    return np.stack([relative_SE3(message.world_SE3_agent, world_SE3_ego) for message in messages])
