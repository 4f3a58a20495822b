"""What the parts of a run tell each other about a tick: small frozen records, never feature maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import Literal

from heal.agents.region import Tile
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import IOU_THRESHOLDS, FrameMatch, match_frame
from heal.message.message import Buffer
from heal.types import Float32, Float64, ObjectLabels

Sender = tuple[str, int]
NODE_AWAY = "fusion node away"


LOST_WITH_MACHINE = "lost with its machine"


OUT_OF_RANGE = "out of range"


MessageStatus = Literal["used", "rejected", "out of range", "late", "lost"]
FaultKind = Literal[
    "agent crashed", "agent hung", "agent rejoined", "fusion node crashed", "fusion node hung", "fusion node restarted"
]


@dataclass(frozen=True)
class AgentLatency:
    """Wall-clock time of an agent's stages: read or cast its sensors, run its network, make the message's bytes.

    `packed_s` is when the last of them ended, by the machine's monotonic clock.
    """

    sense_ms: float
    encode_ms: float
    pack_ms: float
    packed_s: float = 0.0


@dataclass(frozen=True)
class AgentReport:
    """What an agent says of its step beside the message itself.

    Attributes:
        agent_id: who reports.
        agent_type: such as "m1".
        size_bytes: length of the message.
        world_SE3_agent: (4, 4) float64, its true pose; for pictures only.
        objects: the labels around it; for evaluation only, they cross no link.
        latency: of its stages.
        points: (N, 4) float32 its LiDAR points in its own frame where pictures want them, else None.
        heat: (ny, nx) float32 in [0, 1], how much foreground it sees where on the grid, where pictures want it, else None.
    """

    agent_id: str
    agent_type: str
    size_bytes: int
    world_SE3_agent: Float64
    objects: ObjectLabels
    latency: AgentLatency
    points: Float32 | None = None
    heat: Float32 | None = None

    def after(self, sense_ms: float, encode_ms: float) -> AgentReport:
        """The report with the times of the stages before packing."""
        return replace(self, latency=replace(self.latency, sense_ms=sense_ms, encode_ms=encode_ms))


@dataclass(frozen=True)
class Arrival:
    """Bytes that came out of a link.

    Attributes:
        agent_id: whose link it is.
        buffer: what came, as yet unchecked.
        tick: in which it was sent.
    """

    agent_id: str
    buffer: Buffer
    tick: int


@dataclass(frozen=True)
class FusionRequest:
    """Asks a fusion node for one tick, around the ego or in a region.

    Attributes:
        tick: index of the scene in its source.
        timestamp_ns: the instant that the result is for.
        sequence: the recording that the tick belongs to; what is held of one is of no use in another.
        ego_id: the agent in whose frame the result is; "" for a region.
        world_SE3_frame: (4, 4) float64, the frame of the result: a region's own, or the ego's, where its own message is missing.
        region: of which only the boxes in it, and a little beyond its border, are wanted; None for all on the grid around the ego.
    """

    tick: int
    timestamp_ns: int
    sequence: str
    ego_id: str
    world_SE3_frame: Float64
    region: Tile | None = None


@dataclass(frozen=True)
class Rejection:
    """A message that the fusion node did not use: whose, sent in which tick, why in two words (for counting), and in detail."""

    agent_id: str
    tick: int
    reason: str
    detail: str


@dataclass(frozen=True)
class HeldMap:
    """An older map that stood in for one that was late or lost: whose, how old it was, and how much its age left of its weight."""

    agent_id: str
    age_ms: float
    weight: float


@dataclass(frozen=True)
class Fault:
    """Something that broke or came back: what, and whose it was ("" for the fusion node)."""

    kind: FaultKind
    agent_id: str = ""


@dataclass(frozen=True)
class NodeLatency:
    """Wall-clock time of the fusion node's stages: read and check messages, warp and fuse and run the heads, decode boxes.

    `began_s` is when the first of them began, by its machine's monotonic clock.
    """

    unpack_ms: float
    fuse_ms: float
    decode_ms: float
    began_s: float = 0.0


@dataclass(frozen=True)
class FusionOutcome:
    """A tick's result from a fusion node, or the joint one of several.

    Attributes:
        tick: which.
        detections: in the frame of the request.
        used: the agents whose messages of this tick were fused, the ego first.
        held: older maps that were fused too.
        rejected: messages that were turned down.
        latency: of the node's stages; of several nodes each stage's slowest.
    """

    tick: int
    detections: Detections
    used: tuple[str, ...]
    held: tuple[HeldMap, ...]
    rejected: tuple[Rejection, ...]
    latency: NodeLatency

    def and_rejected(self, more: Sequence[Rejection]) -> FusionOutcome:
        """The outcome with further messages that were not used."""
        return replace(self, rejected=(*self.rejected, *more))


@dataclass(frozen=True)
class MessageRecord:
    """What became of one agent's message in one tick.

    Attributes:
        tick: in which it was sent.
        agent_id: the sender.
        agent_type: its type.
        own: it is the ego's, which the fusion node reads on board: it crosses no link and is in no count.
        size_bytes: as sent; 0 if the agent died before it could send.
        sent_ns: simulated time at which it entered the link.
        arrival_ns: simulated time at which it came out; None if lost.
        status: used, rejected, out of range, late or lost: what became of it in its own tick.
        reason: why, where it was not used.
        latency: of the agent's stages; None if the agent died.
    """

    tick: int
    agent_id: str
    agent_type: str
    own: bool
    size_bytes: int
    sent_ns: int
    arrival_ns: int | None
    status: MessageStatus
    reason: str = ""
    latency: AgentLatency | None = None

    @property
    def why(self) -> str:
        """The reason without the numbers of the single case."""
        return self.reason.partition(":")[0]

    @property
    def kind(self) -> str:
        """What became of it, and of a lost or rejected one why; for counting."""
        return f"{self.status}: {self.why}" if self.status in ("lost", "rejected") and self.why else self.status

    @property
    def link_ms(self) -> float | None:
        """Simulated time on the link."""
        return None if self.arrival_ns is None else (self.arrival_ns - self.sent_ns) / 1e6


@dataclass(frozen=True)
class MessageCounts:
    """Messages over links; sent = arrived + late + lost, arrived = used + rejected + out_of_range."""

    sent: int = 0
    arrived: int = 0
    late: int = 0
    lost: int = 0
    used: int = 0
    rejected: int = 0
    out_of_range: int = 0
    bytes: int = 0

    def __add__(self, other: MessageCounts) -> MessageCounts:
        """Both together."""
        return MessageCounts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @staticmethod
    def of(records: Iterable[MessageRecord]) -> MessageCounts:
        """Count the records of messages that crossed a link."""
        over_links = [record for record in records if not record.own]
        by_status = Counter(record.status for record in over_links)
        return MessageCounts(
            sent=len(over_links),
            arrived=by_status["used"] + by_status["rejected"] + by_status["out of range"],
            late=by_status["late"],
            lost=by_status["lost"],
            used=by_status["used"],
            rejected=by_status["rejected"],
            out_of_range=by_status["out of range"],
            bytes=sum(record.size_bytes for record in over_links),
        )


@dataclass(frozen=True)
class AgentView:
    """An agent for a picture.

    Attributes:
        agent_id: which.
        world_SE3_agent: (4, 4) float64, its true pose.
        points: (N, 4) float32 its LiDAR points in its own frame; none for an agent with cameras alone.
        heat: (ny, nx) float32 in [0, 1], how much foreground it sees where on the grid around it.
    """

    agent_id: str
    world_SE3_agent: Float64
    points: Float32
    heat: Float32


@dataclass(frozen=True)
class TickResult:
    """One tick from sensors to boxes.

    Attributes:
        tick: index of the scene in its source.
        scene_id: the scene's name.
        timestamp_ns: its instant.
        ego_id: the agent in whose frame the boxes are.
        world_SE3_ego: (4, 4) float64, the ego's true pose.
        detections: what was found.
        ground_truth: what all agents' labels say is there, cut to the grid's range.
        messages: what became of each agent's message, ego first.
        latency: of the fusion node's stages; None where it did not answer.
        lag_ms: in wall-clock time, how late the tick began; 0 in simulated time.
        views: agents with what they see, where pictures want it, else empty.
        held: older maps that stood in for late or lost ones.
        late_rejections: why messages of earlier ticks that have come since were turned down.
        faults: what broke or came back.
        handed_over: agents that have driven into another region since they were last heard of.
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
    views: tuple[AgentView, ...] = ()
    held: tuple[HeldMap, ...] = ()
    late_rejections: tuple[Rejection, ...] = ()
    faults: tuple[Fault, ...] = ()
    handed_over: tuple[str, ...] = ()

    @cached_property
    def match(self) -> FrameMatch:
        """Which detections found an object, and which objects were found, at `IOU_THRESHOLDS`; matched once for all who ask."""
        return match_frame(self.detections, self.ground_truth, IOU_THRESHOLDS)

    @property
    def counts(self) -> MessageCounts:
        """The tick's messages over links, counted."""
        return MessageCounts.of(self.messages)


FUSION_NODE = "fusion node"


def is_recovery(fault: Fault) -> bool:
    """Something came back, rather than broke."""
    return fault.kind in ("agent rejoined", "fusion node restarted")


def owner_of(fault: Fault) -> str:
    """Whose fault it is."""
    return fault.agent_id or FUSION_NODE


def fault_words(fault: Fault) -> str:
    """A fault in one line."""
    return f"{fault.kind}: {fault.agent_id}" if fault.agent_id else fault.kind
