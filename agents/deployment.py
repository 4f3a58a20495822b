"""The deployment of a run: its device, and on Ray the cluster, the placement of its actors, and the faults injected for trials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from heal.agents.door.options import DoorOptions
from heal.device import DEVICE_NAMES
from heal.errors import UserError
from heal.option_text import count_in

Placement = Literal["pack", "spread", "per-node"]
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)
NODE_TARGET = "node"
"""The target of a planned fault of the fusion node."""

GIVEN_UP = "agent given up"
"""Why an agent whose process has broken so often that it is not started again sends no messages."""

MAX_PIPELINE = 2
LEAST_STORE_MIB = 80
"""Ray refuses an object store below 75 MiB."""


@dataclass(frozen=True)
class PlannedFault:
    """A fault that the run injects.

    Attributes:
        kind: "crash" ends a process; "hang" makes a process run on without answering.
        who: the id of an agent, whose process breaks; "node" for the fusion node, or "node:0" and so on for one of several.
        tick: index of the scene before which the process breaks.
    """

    kind: Literal["crash", "hang"]
    who: str
    tick: int

    @property
    def node(self) -> int | None:
        """The number of the fusion node that breaks, counted from 0; None for an agent."""
        name, _, number = self.who.partition(":")
        return count_in(number or "0") if name == NODE_TARGET else None

    @staticmethod
    def parse(text: str) -> tuple[PlannedFault, ...]:
        """Read planned faults `crash:AGENT@TICK` and `hang:AGENT@TICK`, separated by commas.

        Raises:
            ValueError: the text has another form; the message shows the possible ones.
        """
        return tuple(PlannedFault._parse_one(part.strip()) for part in text.split(",") if part.strip())

    @staticmethod
    def _parse_one(text: str) -> PlannedFault:
        kind, _, rest = text.partition(":")
        target, _, number = rest.rpartition("@")
        tick = count_in(number)
        if kind not in ("crash", "hang") or not target or tick is None:
            raise UserError(
                f"fault {text!r}: expected crash:AGENT@TICK or hang:AGENT@TICK, with {NODE_TARGET} for the fusion node, "
                f"{NODE_TARGET}:0, {NODE_TARGET}:1 for one of several"
            )
        return PlannedFault("crash" if kind == "crash" else "hang", target, tick)


@dataclass(frozen=True)
class Deployment:
    """The deployment of a run on Ray; of a run in one process the device.

    Attributes:
        device: device of the networks: "cpu", "cuda", "cuda:1" and so on, or "auto" for a GPU if the machine of a process has one.
            All processes of a machine share this device. An actor to which Ray gives GPUs (`gpus_per_actor`, `gpus_per_node`)
            computes on them, and one on a machine without a GPU on the CPU.
        address: address of a running Ray cluster, such as "auto" or "ray-head:6379"; None starts Ray on this machine for the run.
        placement: "pack" fills one machine after the other, "spread" distributes actors by Ray's own strategy, "per-node" assigns
            actors to the machines in turn.
        agents_per_actor: largest number of agents of one type that share a process and a network.
        gpus_per_actor: GPUs of each actor with agents; a fraction such as 0.25 lets several actors share a GPU.
        gpus_per_node: GPUs of each actor with fusion nodes.
        fusion_nodes: number of actors among which the regions are divided (`RunOptions.region_m`); without regions there is one.
        pipeline: number of ticks by which the agents may be ahead of the fusion node in simulated time.
        actor_memory_mib: memory in MiB that is reserved for each actor; 0 reserves none. Actors for whose reservations the machines
            have no room are started without one, after a warning.
        hang_s: time in s without an answer after which a process counts as hung; the process is ended and restarted. A first tick
            takes long: towns are built in the first tick, and with many agents on few cores the agents wait for each other. A
            fusion node waits for the messages of a tick for a third of this time.
        restart_ms: simulated time in ms for which a crashed agent is away; with `RunOptions.realtime` the restart's own duration
            counts instead.
        metrics_port: port of the metrics of a Ray that is started for the run, 0 for any free port; None collects no metrics.
        object_store_mib: size in MiB of the object store of a Ray that is started for the run; None for a quarter of the memory
            that is left, but from 512 MiB to 4 GiB. Messages that do not fit into it go through the disk.
        faults: faults to inject, for trials.
        door: the door through which agents of other processes send messages; None for no such agents.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    device: str = "auto"
    address: str | None = None
    placement: Placement = "pack"
    agents_per_actor: int = 1
    gpus_per_actor: float = 0.0
    gpus_per_node: float = 0.0
    fusion_nodes: int = 1
    pipeline: int = 1
    actor_memory_mib: int = 640
    hang_s: float = 180.0
    restart_ms: float = 1000.0
    metrics_port: int | None = None
    object_store_mib: int | None = None
    faults: tuple[PlannedFault, ...] = ()
    door: DoorOptions | None = None

    def __post_init__(self) -> None:
        """Check the device's name and the ranges of all numbers, and that planned faults of fusion nodes name existing nodes."""
        if re.fullmatch(DEVICE_NAMES, self.device) is None:
            raise UserError(f"device: expected auto, cpu, cuda or cuda:N, got {self.device!r}")
        if self.placement not in PLACEMENTS:
            raise UserError(f"placement: expected one of {', '.join(PLACEMENTS)}, got {self.placement!r}")
        if self.agents_per_actor < 1 or not 0 <= self.pipeline <= MAX_PIPELINE:
            raise UserError(f"expected at least 1 agent in an actor and 0 to {MAX_PIPELINE} ticks of pipeline, got {self}")
        if self.fusion_nodes < 1 or any(fault.node is not None and fault.node >= self.fusion_nodes for fault in self.faults):
            raise UserError(f"expected at least 1 fusion node, and planned faults of existing fusion nodes alone, got {self}")
        if min(self.gpus_per_actor, self.gpus_per_node, self.restart_ms, self.actor_memory_mib) < 0 or not self.hang_s > 0:
            raise UserError(f"GPUs, memory and times must not be negative and hang_s more than 0, got {self}")
        if self.object_store_mib is not None and self.object_store_mib < LEAST_STORE_MIB:
            raise UserError(f"object_store_mib: expected at least {LEAST_STORE_MIB}, got {self.object_store_mib}")
        if any(gpus > 1 and not float(gpus).is_integer() for gpus in (self.gpus_per_actor, self.gpus_per_node)):
            raise UserError(f"gpus_per_actor and gpus_per_node: expected a part of one GPU, or a whole number of GPUs, got {self}")

    @property
    def collects_metrics(self) -> bool:
        """Whether the run records metrics for Prometheus; whether a running cluster serves the metrics depends on its own setup."""
        return self.address is not None or self.metrics_port is not None

    def faults_at(self, tick: int) -> tuple[PlannedFault, ...]:
        """Return the faults to inject before a tick."""
        return tuple(fault for fault in self.faults if fault.tick == tick)
