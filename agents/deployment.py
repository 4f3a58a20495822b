"""Where a run computes, and what of it is to break: everything about it that leaves its results alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

Placement = Literal["pack", "spread", "per-node"]
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)
FUSION_NODE = "node"
MAX_PIPELINE = 2


@dataclass(frozen=True)
class PlannedFault:
    """Something that is to break.

    Attributes:
        kind: "crash" ends a process, "hang" lets it go on without ever answering.
        who: an agent, or "node" for the fusion node, of several "node:0" and so on.
        tick: index of the scene before which it happens.
    """

    kind: Literal["crash", "hang"]
    who: str
    tick: int

    @property
    def node(self) -> int | None:
        """Which fusion node it befalls, counted from 0; None for an agent."""
        name, _, number = self.who.partition(":")
        return int(number or 0) if name == FUSION_NODE and (number or "0").isdigit() else None

    @staticmethod
    def parse(text: str) -> tuple[PlannedFault, ...]:
        """Read `crash:AGENT@TICK` and `hang:AGENT@TICK`, joined by commas; ValueError saying so otherwise."""
        return tuple(PlannedFault._parse_one(part.strip()) for part in text.split(",") if part.strip())

    @staticmethod
    def _parse_one(text: str) -> PlannedFault:
        kind, _, rest = text.partition(":")
        who, _, tick = rest.rpartition("@")
        if kind not in ("crash", "hang") or not who or not tick.isdigit():
            raise ValueError(
                f"fault {text!r}: expected crash:AGENT@TICK or hang:AGENT@TICK, with {FUSION_NODE} for the fusion node, "
                f"of several {FUSION_NODE}:0, {FUSION_NODE}:1"
            )
        return PlannedFault("crash" if kind == "crash" else "hang", who, int(tick))


@dataclass(frozen=True)
class Deployment:
    """Where a run on Ray computes.

    Attributes:
        address: of a Ray cluster that is running, such as "auto" or "ray-head:6379"; None starts one on this machine for the run.
        placement: "pack" fills machine after machine, "spread" evens out as Ray sees fit, "per-node" deals the actors out in turn.
        agents_per_actor: so many agents of one type share a process and a network.
        gpus_per_actor: of each actor with agents; several may share a GPU, as in 0.25.
        gpus_per_node: of each actor with fusion nodes.
        fusion_nodes: so many actors share the regions among them (`RunOptions.region_m`); without regions one has all to do.
        pipeline: ticks by which the agents may be ahead of the fusion node in simulated time.
        hang_s: a process that has not answered for so long has hung, and is ended and started anew. A first tick takes long: towns
            are built in it, and with many agents on few cores each waits for the others.
        restart_ms: simulated time for which an agent that has crashed is away. By the wall clock it takes as long as it takes.
        metrics_port: on which the metrics of a Ray of its own are served, 0 for any that is free; None collects none.
        faults: what is to break, for trials.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    address: str | None = None
    placement: Placement = "pack"
    agents_per_actor: int = 1
    gpus_per_actor: float = 0.0
    gpus_per_node: float = 0.0
    fusion_nodes: int = 1
    pipeline: int = 1
    hang_s: float = 180.0
    restart_ms: float = 1000.0
    metrics_port: int | None = None
    faults: tuple[PlannedFault, ...] = ()

    def __post_init__(self) -> None:
        """Check that every number can be meant."""
        if self.placement not in PLACEMENTS:
            raise ValueError(f"placement: expected one of {', '.join(PLACEMENTS)}, got {self.placement!r}")
        if self.agents_per_actor < 1 or not 0 <= self.pipeline <= MAX_PIPELINE:
            raise ValueError(f"expected at least 1 agent in an actor and 0 to {MAX_PIPELINE} ticks of pipeline, got {self}")
        if self.fusion_nodes < 1 or any(fault.node is not None and fault.node >= self.fusion_nodes for fault in self.faults):
            raise ValueError(f"expected at least 1 fusion node, and faults of no others than there are, got {self}")
        if min(self.gpus_per_actor, self.gpus_per_node, self.restart_ms) < 0 or not self.hang_s > 0:
            raise ValueError(f"GPUs and times must not be negative and hang_s more than 0, got {self}")

    @property
    def collects_metrics(self) -> bool:
        """Whether the run is counted for Prometheus; a cluster serves metrics or not as it has been set up."""
        return self.address is not None or self.metrics_port is not None

    def faults_at(self, tick: int) -> tuple[PlannedFault, ...]:
        """What is to break before a tick."""
        return tuple(fault for fault in self.faults if fault.tick == tick)
