"""The feature maps that a fusion node holds: each agent's newest map, as long as the map is fresh enough to be fused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from heal.agents.options import RunOptions
from heal.agents.records import FusionRequest, Sender
from heal.types import Float64


@dataclass(frozen=True, eq=False)
class KnownMap:
    """What a fusion node knows of an agent (`RunOptions.split`): the scales of its feature map, its boxes or its points.

    Attributes:
        agent_id: the sender.
        agent_type: its type, as the sender says.
        tick: in which the message was sent.
        timestamp_ns: time of the sensors' measurement, by the sender's clock.
        world_SE3_agent: (4, 4) float64, the sender's pose at that time, as the sender measured the pose.
        maps: per scale (1, C, ny, nx) features; or one list of boxes (1, 8, 1, K) or of points (1, 4, 1, N), see `Message.maps`.
        scores: per scale (1, 1, ny, nx) foreground scores, 0 in cells about which the sender has no information; of boxes and
            points none.
        borrowed: whether the scales are views of the message's bytes.
        free: (1, 1, ny, nx) float32, 1 in the cells of the finest scale that the sender says to have seen to be empty, else 0; None
            if it tells none. The ego alone is believed.
    """

    agent_id: str
    agent_type: str
    tick: int
    timestamp_ns: int
    world_SE3_agent: Float64
    maps: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]
    borrowed: bool = False
    free: Tensor | None = None

    @property
    def sender(self) -> Sender:
        """The sender and the tick of the message."""
        return self.agent_id, self.tick

    def owned(self) -> KnownMap:
        """Return the map with memory of its own, so that the message's bytes can be freed."""
        if not self.borrowed:
            return self
        maps, scores = (tuple(level.clone() for level in levels) for levels in (self.maps, self.scores))
        return replace(self, maps=maps, scores=scores, borrowed=False)


class MapMemory:
    """The newest map of every agent, under one of the policies for late maps (`RunOptions.late`)."""

    def __init__(self, options: RunOptions) -> None:
        """Make an empty memory."""
        self._options = options
        self._maps: dict[str, KnownMap] = {}
        self._sequence = ""

    def begin_tick(self, request: FusionRequest) -> None:
        """Forget the maps that are of no use in a tick: those of another recording, and those that are too old."""
        if request.sequence != self._sequence or self._options.late == "drop":
            self._maps.clear()
        self._sequence = request.sequence
        limit = self._options.max_age_ms
        self._maps = {name: known for name, known in self._maps.items() if abs(age_ms(known, request)) <= limit}

    def newest(self, agent_id: str) -> KnownMap | None:
        """Return the newest map of an agent; None if the memory holds none."""
        return self._maps.get(agent_id)

    def keep(self, known: KnownMap) -> None:
        """Store a map in place of the agent's older map."""
        self._maps[known.agent_id] = known

    def forget(self, maps: Iterable[KnownMap]) -> None:
        """Forget the agents of these maps."""
        gone = {known.agent_id for known in maps}
        self._maps = {name: known for name, known in self._maps.items() if name not in gone}

    def release_messages(self, request: FusionRequest) -> None:
        """Copy the borrowed maps of earlier ticks. Call this once all messages of a tick are read: newer maps need no copy yet."""
        self._maps = {name: known if known.tick == request.tick else known.owned() for name, known in self._maps.items()}

    def in_order(self, request: FusionRequest) -> list[KnownMap]:
        """Return all maps, the ego's first and the others by agent id, so that no sum depends on the order of arrival."""
        return sorted(self._maps.values(), key=lambda known: (known.agent_id != request.ego_id, known.agent_id))

    def weight(self, known: KnownMap, request: FusionRequest) -> float:
        """Return the factor on a map's weight: 1 in its own tick, and under the policy "weigh" less with growing age."""
        if known.tick == request.tick or self._options.late != "weigh":
            return 1.0
        return float(0.5 ** (max(age_ms(known, request), 0.0) / self._options.half_life_ms))


def age_ms(known: KnownMap, request: FusionRequest) -> float:
    """Return the age of a map in a tick in ms; negative if the sender's clock is ahead."""
    return (request.timestamp_ns - known.timestamp_ns) / 1e6
