"""What the parts of a run tell each other about a tick: small frozen records, never feature maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Literal

from heal.detections import Detections, GroundTruth
from heal.message import Buffer
from heal.types import Float32, Float64, ObjectLabels

MessageStatus = Literal["used", "rejected", "out of range", "late", "lost"]


@dataclass(frozen=True)
class AgentLatency:
    """Wall-clock time of an agent's stages: read or cast its sensors, run its network, make the message's bytes."""

    sense_ms: float
    encode_ms: float
    pack_ms: float


@dataclass(frozen=True)
class AgentReport:
    """What an agent says of its step beside the message itself.

    Attributes:
        agent_id: who reports.
        agent_type: such as "m1".
        size_bytes: length of the message.
        world_SE3_agent: (4, 4) float64, its true pose; for pictures only.
        objects: the labels around it; for evaluation only, they cross no link.
        points: (N, 4) float32 its LiDAR points in its own frame where pictures want them, else None.
        latency: of its stages.
    """

    agent_id: str
    agent_type: str
    size_bytes: int
    world_SE3_agent: Float64
    objects: ObjectLabels
    points: Float32 | None
    latency: AgentLatency


@dataclass(frozen=True)
class Arrival:
    """Bytes that came out of a link.

    Attributes:
        agent_id: whose link it is.
        buffer: what came, as yet unchecked.
        arrival_ns: when.
    """

    agent_id: str
    buffer: Buffer
    arrival_ns: int


@dataclass(frozen=True)
class FusionRequest:
    """Asks the fusion node for one tick.

    Attributes:
        tick: index of the scene in its source.
        timestamp_ns: the instant that the result is for.
        ego_id: the agent in whose frame the result is.
        world_SE3_ego: (4, 4) float64, used where the ego's own message is missing.
    """

    tick: int
    timestamp_ns: int
    ego_id: str
    world_SE3_ego: Float64


@dataclass(frozen=True)
class Rejection:
    """A message that the fusion node did not use: whose, why in two words (for counting), and in detail."""

    agent_id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class NodeLatency:
    """Wall-clock time of the fusion node's stages: read and check messages, warp and fuse and run the heads, decode boxes."""

    unpack_ms: float
    fuse_ms: float
    decode_ms: float


@dataclass(frozen=True)
class FusionOutcome:
    """A tick's result from the fusion node: boxes in the ego's frame, whose messages made them, whose were turned down."""

    tick: int
    detections: Detections
    used: tuple[str, ...]
    rejected: tuple[Rejection, ...]
    latency: NodeLatency


@dataclass(frozen=True)
class MessageRecord:
    """What became of one agent's message in one tick.

    Attributes:
        agent_id: the sender.
        agent_type: its type.
        own: it is the ego's, which the fusion node reads on board: it crosses no link and is in no count.
        size_bytes: as sent; 0 if the agent died before it could send.
        sent_ns: simulated time at which it entered the link.
        arrival_ns: simulated time at which it came out; None if lost.
        status: used, rejected, out of range, late or lost.
        reason: why, where it was not used.
        latency: of the agent's stages; None if the agent died.
    """

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
class AgentCloud:
    """An agent for a picture: its true pose and its LiDAR points (N, 4) float32 in its own frame."""

    agent_id: str
    world_SE3_agent: Float64
    points: Float32


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
        latency: of the fusion node's stages.
        lag_ms: in wall-clock time, how late the tick began; 0 in simulated time.
        clouds: agents with their points where pictures want them, else empty.
    """

    tick: int
    scene_id: str
    timestamp_ns: int
    ego_id: str
    world_SE3_ego: Float64
    detections: Detections
    ground_truth: GroundTruth
    messages: tuple[MessageRecord, ...]
    latency: NodeLatency
    lag_ms: float = 0.0
    clouds: tuple[AgentCloud, ...] = ()

    @property
    def counts(self) -> MessageCounts:
        """The tick's messages over links, counted."""
        return MessageCounts.of(self.messages)


@dataclass(frozen=True)
class RunOptions:
    """How to run.

    Attributes:
        agents: let only the ego and the first agents - 1 others take part; None for all. Ground truth is of all agents' labels.
        comm_range_m: agents farther than this from the ego, in the plane, are not used.
        deadline_ms: a message that arrives later than this after its tick is late and dropped.
        max_age_ms: a message whose timestamp is farther than this from its tick's is stale and rejected.
        threads: torch threads of each actor; 1 is fastest where several actors share few cores.
        keep_points: hand LiDAR points through to the results, for pictures; of all ticks, or of these.
        include_ego: the ego's own vehicle is to be found where another agent has labelled it, as in OPV2V's evaluation; otherwise
            it is neither ground truth nor a detection.
        use_z: ground truth must lie in the range in height too; the rule for DAIR-V2X tests x and y alone.
        realtime: begin each tick at its own wall-clock time instead of as soon as possible.
    """

    agents: int | None = None
    comm_range_m: float = 70.0
    deadline_ms: float = 100.0
    max_age_ms: float = 200.0
    threads: int = 1
    keep_points: bool | frozenset[int] = False
    include_ego: bool = False
    use_z: bool = True
    realtime: bool = False

    def __post_init__(self) -> None:
        """Check that every number can be meant."""
        if self.agents is not None and self.agents < 1:
            raise ValueError(f"agents: expected at least 1 (the ego), got {self.agents}")
        if min(self.comm_range_m, self.deadline_ms, self.max_age_ms) < 0 or self.threads < 1:
            raise ValueError(f"ranges and times must not be negative and threads at least 1, got {self}")
