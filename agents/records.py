"""Records that the parts of a run exchange about a tick: small and frozen, without feature maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from heal.agents.faults import Fault
from heal.agents.message_records import AgentLatency, MessageCounts, MessageRecord
from heal.agents.region import Region
from heal.detection.classes import VEHICLE
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import IOU_THRESHOLDS, FrameMatch, IouKind, match_in_all_kinds
from heal.detection.visibility import PointCounts, SceneVisibility
from heal.message.message import Buffer
from heal.types import BoolMask, Float32, Float64, ObjectLabels, UInt8

# The id of the agent that sent a message, and the tick in which it was sent.
Sender = tuple[str, int]
# Reasons of rejections that have a status of their own: the fusion node did not answer, the message could not be fetched from the
# machine that held it, and the sender was too far away.
NODE_AWAY, LOST_WITH_MACHINE, OUT_OF_RANGE = "fusion node away", "lost with its machine", "out of range"
# Why an agent sends no message: its agent type reads no LiDAR, and points are sent.
NO_POINTS = "no points to send"
# Why an agent has no message in time by the wall clock: it still computes this tick's, or that of an earlier tick.
UNFINISHED, BUSY = "not computed in time", "agent busy"
# The stages of an agent's step and of a fusion node's, in their order; latencies have a field `STAGE_ms` for each.
AGENT_STAGES, NODE_STAGES = ("sense", "encode", "pack"), ("unpack", "fuse", "decode")


@dataclass(frozen=True)
class AgentReport:
    """An agent's report on its step, which comes beside the message.

    Attributes:
        agent_id: the agent.
        agent_type: its type, such as "m1".
        size_bytes: length of the message.
        world_SE3_agent: (4, 4) float64, the agent's true pose, for pictures only.
        world_SE3_agent_measured: (4, 4) float64, the pose that the agent measures and sends.
        objects: the labels around the agent, for evaluation only; they cross no link.
        latency: of the agent's stages.
    """

    agent_id: str
    agent_type: str
    size_bytes: int
    world_SE3_agent: Float64
    world_SE3_agent_measured: Float64
    objects: ObjectLabels
    latency: AgentLatency

    def after(self, sense_ms: float, encode_ms: float) -> AgentReport:
        """Return the report with the times of the stages before packing."""
        return replace(self, latency=replace(self.latency, sense_ms=sense_ms, encode_ms=encode_ms))


@dataclass(frozen=True)
class AgentAside:
    """What is made of an agent's step beside its message, for pictures and evaluation: no message waits for it.

    Attributes:
        agent_id: the agent.
        view: what pictures show of the agent; None if the tick is not drawn.
        counts: the agent's LiDAR points on labelled vehicles; None if they are not counted, or if its sweep cannot be read.
    """

    agent_id: str
    view: AgentView | None = None
    counts: PointCounts | None = None


@dataclass(frozen=True)
class Arrival:
    """Bytes that came out of a link.

    Attributes:
        agent_id: the agent at the other end of the link.
        buffer: the bytes, which have not been checked.
        tick: the tick in which they were sent.
    """

    agent_id: str
    buffer: Buffer
    tick: int


@dataclass(frozen=True)
class FusionRequest:
    """Asks a fusion node for one tick, around the ego or in a region.

    Attributes:
        tick: index of the scene in its source.
        timestamp_ns: the instant of the result.
        sequence: the recording of the tick; maps held from one recording are of no use in another.
        ego_id: the agent in whose frame the result is; "" for a region.
        world_SE3_frame: (4, 4) float64, the frame of the result: the region's, or the ego's where the ego's own message is missing.
        region: the region whose boxes are wanted, with a little beyond its border; None for all boxes on the grid around the ego.
        trust: the trust in agent types that were not in the alliance when the run began.
        ego_type: the agent type of the ego; "" for a region.
    """

    tick: int
    timestamp_ns: int
    sequence: str
    ego_id: str
    world_SE3_frame: Float64
    region: Region | None = None
    trust: Mapping[str, float] = field(default_factory=dict)
    ego_type: str = ""


@dataclass(frozen=True)
class Rejection:
    """A message that the fusion node did not use.

    Attributes:
        agent_id: the sender.
        tick: the tick in which the message was sent.
        reason: why the message was not used, in few words, for counting.
        detail: the numbers and names of this single case.
    """

    agent_id: str
    tick: int
    reason: str
    detail: str

    @property
    def sender(self) -> Sender:
        """The sender and the tick of the message."""
        return self.agent_id, self.tick


@dataclass(frozen=True)
class HeldMap:
    """An older map that was fused in place of one that was late or lost.

    Attributes:
        agent_id: the sender.
        age_ms: age of the map in the tick.
        weight: share in [0, 1] of the map's weight that its age has left.
    """

    agent_id: str
    age_ms: float
    weight: float


@dataclass(frozen=True)
class NodeLatency:
    """Wall-clock time of the fusion node's stages.

    Attributes:
        unpack_ms: to read and check the messages.
        fuse_ms: to run the trunk on maps that came without its scales, warp and fuse the maps, and run the heads.
        decode_ms: to decode boxes.
        began_s: when the first stage began, by the machine's monotonic clock.
    """

    unpack_ms: float
    fuse_ms: float
    decode_ms: float
    began_s: float = 0.0

    @property
    def total_ms(self) -> float:
        """The time of all stages together."""
        return self.unpack_ms + self.fuse_ms + self.decode_ms


@dataclass(frozen=True)
class GuardReport:
    """What became of the ego's confident boxes in a tick (`heal.detection.guard`); counted in every run, guarded or not.

    Attributes:
        confident: number of confident boxes of the ego alone.
        lost: how many of them the fusion of all maps lost, before a guard did anything.
        put_back: boxes of the ego that a guard has added to the result; 0 without a guard.
        blamed: the senders whose maps a guard left out of the tick.
    """

    confident: int
    lost: int
    put_back: int = 0
    blamed: tuple[str, ...] = ()


@dataclass(frozen=True)
class FusionOutcome:
    """A tick's result from a fusion node, or the joint one of several.

    Attributes:
        tick: index of the scene in its source.
        detections: in the frame of the request.
        used: the agents whose messages of this tick were fused, the ego first.
        held: older maps that were fused too.
        rejected: messages that were not used.
        latency: of the node's stages; of several nodes the longest time of each stage.
        alone: the boxes that the ego's own map of this tick gives alone; None without it and in regions, which have no ego.
        guard: what became of the confident ones among them; None if `alone` is None.
        used_sequences: in a signed run the largest sequence number of each key, by its id, that the node has used.
    """

    tick: int
    detections: Detections
    used: tuple[str, ...]
    held: tuple[HeldMap, ...]
    rejected: tuple[Rejection, ...]
    latency: NodeLatency
    alone: Detections | None = None
    guard: GuardReport | None = None
    used_sequences: Mapping[bytes, int] = field(default_factory=dict)

    @property
    def unused(self) -> dict[Sender, Rejection]:
        """The rejection of each message that was not used; the rejected copy of a message that was used is not among them."""
        used = {(agent_id, self.tick) for agent_id in self.used}
        return {rejection.sender: rejection for rejection in self.rejected if rejection.sender not in used}

    def and_rejected(self, more: Sequence[Rejection]) -> FusionOutcome:
        """Return the outcome with further messages that were not used."""
        return replace(self, rejected=(*self.rejected, *more))


@dataclass(frozen=True)
class AgentView:
    """What a picture shows of an agent.

    Attributes:
        agent_id: the agent.
        world_SE3_agent: (4, 4) float64, the agent's true pose.
        points: (N, 4) float32 LiDAR points in the agent's frame; N = 0 for an agent with cameras alone.
        heat: (ny, nx) float32 in [0, 1], foreground scores on the grid around the agent.
        images: (H, W, 3) RGB, small copies of what the agent's cameras see; empty for an agent without cameras.
    """

    agent_id: str
    world_SE3_agent: Float64
    points: Float32
    heat: Float32
    images: tuple[UInt8, ...] = ()


@dataclass(frozen=True)
class TickResult:
    """The result of one tick.

    Attributes:
        tick: index of the scene in its source.
        scene_id: name of the scene.
        timestamp_ns: instant of the scene.
        ego_id: the agent in whose frame the boxes are.
        world_SE3_ego: (4, 4) float64, the ego's true pose.
        detections: the boxes that were found.
        ground_truth: the labels of all agents, cut to the grid's range.
        messages: what became of each agent's message, the ego's first.
        latency: of the fusion node's stages; None if no fusion node answered.
        lag_ms: how late the tick began by the wall clock, in milliseconds of the data; 0 in simulated time.
        dropped: number of ticks right before it that were dropped by the wall clock, because the next one was due already.
        views: what pictures show of the agents; empty if no picture needs them.
        held: older maps that were fused in place of late or lost ones.
        late_rejections: messages of earlier ticks of which nothing was used: they came late and were rejected, or came to nothing
            after their tick. Second copies of messages that were used are among them.
        faults: what broke or returned.
        handed_over: agents that have driven into another region since the last report of them.
        objects: the labels of all agents in the world, not cut to the range.
        wait_ms: how long after `timestamp_ns` the result is ready. The fusion node waits for messages until the deadline; an ego
            alone waits for none. By the wall clock the tick's lag, the time until the ego has its own map and the fusion node's own
            time count too.
        late: by the wall clock, agents that have finished the step of an earlier tick since the last one, and the times of their
            stages.
        alone: the boxes that the ego finds alone, from its map of this tick; None without this map and with regions.
        guard: what became of the confident ones among them; None if `alone` is None.
        visibility: LiDAR points on the vehicles of `ground_truth`; None if they are not counted, or those of the ego are not known.
        turned_away: number of byte strings that the run's door turned away since the tick before, by reason.
        class_names: names of the classes of the base, by their numbers.
    """

    tick: int
    scene_id: str
    timestamp_ns: int
    ego_id: str
    world_SE3_ego: Float64
    detections: Detections
    ground_truth: GroundTruth
    messages: tuple[MessageRecord, ...]
    latency: NodeLatency | None
    lag_ms: float = 0.0
    dropped: int = 0
    views: tuple[AgentView, ...] = ()
    held: tuple[HeldMap, ...] = ()
    late_rejections: tuple[Rejection, ...] = ()
    faults: tuple[Fault, ...] = ()
    handed_over: tuple[str, ...] = ()
    objects: ObjectLabels = field(default_factory=ObjectLabels.empty)
    wait_ms: float = 0.0
    late: tuple[tuple[str, AgentLatency], ...] = ()
    alone: Detections | None = None
    guard: GuardReport | None = None
    visibility: SceneVisibility | None = None
    turned_away: Mapping[str, int] = field(default_factory=dict)
    class_names: tuple[str, ...] = (VEHICLE,)

    @cached_property
    def matches(self) -> Mapping[IouKind, FrameMatch]:
        """Which detections found an object at `IOU_THRESHOLDS`, by the kind of overlap; computed once."""
        return match_in_all_kinds(self.detections, self.ground_truth, IOU_THRESHOLDS)

    @property
    def match(self) -> FrameMatch:
        """The match by the overlap in bird's-eye view."""
        return self.matches["bev"]

    @cached_property
    def alone_matches(self) -> Mapping[IouKind, FrameMatch] | None:
        """The matches of the boxes that the ego finds alone, with the same ground truth; None if `alone` is None."""
        return None if self.alone is None else match_in_all_kinds(self.alone, self.ground_truth, IOU_THRESHOLDS)

    @property
    def ego_type(self) -> str:
        """The agent type of the ego; "" for regions, which have no ego."""
        return next((record.agent_type for record in self.messages if record.own), "")

    @property
    def hidden(self) -> BoolMask:
        """(G,) whether the ego has almost no points on each object, while another agent has many; False if that is not known."""
        ids = np.zeros(0, np.int64) if self.visibility is None else self.visibility.ids[self.visibility.hidden]
        hidden: BoolMask = np.isin(self.ground_truth.ids.numpy(), ids)
        return hidden

    @property
    def ready_ns(self) -> int:
        """The instant at which the result is ready."""
        return self.timestamp_ns + round(self.wait_ms * 1e6)

    @property
    def map_ages_ms(self) -> tuple[float, ...]:
        """The age in the tick of each map that was fused and had come over a link: 0 for a map of this tick."""
        own = {record.agent_id for record in self.messages if record.own}
        current = [0.0 for record in self.messages if record.status == "used" and not record.own]
        return (*current, *(held.age_ms for held in self.held if held.agent_id not in own))

    @property
    def counts(self) -> MessageCounts:
        """The number of messages over links by status."""
        return MessageCounts.of(self.messages)
