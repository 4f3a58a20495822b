"""What the fusion node knows of each agent: its newest map, for as long as that is fresh enough to be of use."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from heal.agents.options import RunOptions
from heal.agents.records import FusionRequest
from heal.types import Float64


@dataclass(frozen=True)
class KnownMap:
    """An agent's scales at the fusion node, whichever side of the link has computed them.

    Attributes:
        agent_id: whose.
        tick: in which it was sent.
        timestamp_ns: when it was sensed, by the sender's clock.
        world_SE3_agent: (4, 4) float64, the pose at which it was taken, as the sender measured it.
        maps: per scale (1, C, ny, nx).
        scores: per scale (1, 1, ny, nx) foreground scores, 0 where it says nothing.
        borrowed: the scales are views of the message's bytes.
    """

    agent_id: str
    tick: int
    timestamp_ns: int
    world_SE3_agent: Float64
    maps: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]
    borrowed: bool = False

    def owned(self) -> KnownMap:
        """The map with memory of its own, so that nothing holds on to the message."""
        if not self.borrowed:
            return self
        maps, scores = (tuple(level.clone() for level in levels) for levels in (self.maps, self.scores))
        return replace(self, maps=maps, scores=scores, borrowed=False)


class MapMemory:
    """The newest map of every agent, under one of the policies for late maps (`RunOptions.late`)."""

    def __init__(self, options: RunOptions) -> None:
        """Nothing is known yet."""
        self._options = options
        self._maps: dict[str, KnownMap] = {}
        self._sequence = ""

    def begin(self, request: FusionRequest) -> None:
        """Forget what cannot be of use in a tick: everything of another recording, and what is too old."""
        if request.sequence != self._sequence or self._options.late == "drop":
            self._maps.clear()
        self._sequence = request.sequence
        limit = self._options.max_age_ms
        self._maps = {name: known for name, known in self._maps.items() if abs(age_ms(known, request)) <= limit}

    def newest(self, agent_id: str) -> KnownMap | None:
        """What is known of an agent."""
        return self._maps.get(agent_id)

    def keep(self, known: KnownMap) -> None:
        """Take in an agent's newest map."""
        self._maps[known.agent_id] = known

    def settle(self, request: FusionRequest) -> None:
        """All messages of a tick are in: what is held from ticks before it, no newer one having come, gets memory of its own."""
        self._maps = {name: known if known.tick == request.tick else known.owned() for name, known in self._maps.items()}

    def choose(self, request: FusionRequest) -> list[KnownMap]:
        """The maps to fuse in a tick: the ego's first, then the others' by name, so that no sum depends on who came when."""
        return sorted(self._maps.values(), key=lambda known: (known.agent_id != request.ego_id, known.agent_id))

    def weight(self, known: KnownMap, request: FusionRequest) -> float:
        """How much of its weight a map has left: all in its own tick, less with age later if the policy says so."""
        if known.tick == request.tick or self._options.late != "weigh":
            return 1.0
        return float(0.5 ** (max(age_ms(known, request), 0.0) / self._options.half_life_ms))


def age_ms(known: KnownMap, request: FusionRequest) -> float:
    """How old a map is in a tick; negative by a clock that is ahead."""
    return (request.timestamp_ns - known.timestamp_ns) / 1e6
