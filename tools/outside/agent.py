"""`heal agent`: run one agent as a process of its own, which sends its messages to a simulation in another process."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated

import torch
import typer
from rich.console import Console

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.door.clock import Clock
from heal.agents.door.connection import DoorConnection
from heal.agents.door.options import require_endpoint, require_name
from heal.agents.options import RunOptions
from heal.alliance import Alliance, load_alliance
from heal.device import choose_device
from heal.errors import UserError
from heal.message.codec import Codec
from heal.tools.shared.arguments import AllianceArg, DeviceArg, SourceArg, SourceSplitArg
from heal.tools.shared.preset_option import PresetArg
from heal.tools.shared.sources import TOWN, open_source
from heal.types import SceneSource

EXAMPLES = """\b
heal agent --connect tcp/127.0.0.1:7447 --alliance configs/demo/alliance --type m1 --id 1002 --ticks 300
heal agent --connect tcp/127.0.0.1:7447 --alliance configs/demo/alliance --type m1 --id 1002 --codec int8,zstd
"""
console = Console()
_log = logging.getLogger(__name__)

ConnectArg = Annotated[str, typer.Option(help="Endpoint of the simulation's door, such as tcp/127.0.0.1:7447.")]
TypeArg = Annotated[str, typer.Option("--type", help="Agent type, whose network encodes.")]
IdArg = Annotated[str, typer.Option("--id", help="Agent of the scenes; the simulation must not run it itself.")]
RunArg = Annotated[str, typer.Option(help="Name of the run, as in the simulation's deployment.door.run.")]
TicksArg = Annotated[int | None, typer.Option(min=1, help="Number of ticks of the town, as for the simulation.")]
SeedArg = Annotated[int, typer.Option(min=0, help="Seed of the town, as for the simulation.")]
CodecArg = Annotated[str | None, typer.Option(help="Encoding of messages, see docs/message.md. Default: float32.")]
PatienceArg = Annotated[
    float, typer.Option(min=0, help="Time in s without a sign of the simulation after which the agent gives up.")
]
ZenohConfigArg = Annotated[
    str | None, typer.Option(help="File with Zenoh's own configuration, such as for TLS, in place of --connect; see docs/door.md.")
]
KeysArg = Annotated[
    str | None, typer.Option(help="Folder of keys, as `heal keys new` makes it: messages are signed with the agent's private key.")
]


def agent(
    alliance: AllianceArg,
    connect: ConnectArg,
    agent_type: TypeArg,
    agent_id: IdArg,
    run: RunArg = "run",
    source: SourceArg = TOWN,
    preset: PresetArg = "demo",
    split: SourceSplitArg = None,
    ticks: TicksArg = None,
    seed: SeedArg = 0,
    codec: CodecArg = None,
    device: DeviceArg = "auto",
    patience_s: PatienceArg = 120.0,
    zenoh_config: ZenohConfigArg = None,
    keys: KeysArg = None,
) -> None:
    """Run one agent as a process of its own: at each tick of a simulation in another process it senses, encodes and sends.

    It ends with the simulation. An agent that is slower than the ticks leaves some of them out.
    """
    require_endpoint("--connect", connect)
    require_name("--run", run)
    require_name("--id", agent_id)
    scenes = open_source(source, preset, split, ticks, seed, quiet=True)
    sender = OutsideSender(
        load_alliance(alliance).for_inference(),
        scenes,
        agent_type,
        agent_id,
        Codec.parse(codec or "float32"),
        choose_device(device),
        keys,
    )
    with DoorConnection(connect, run, agent_id, zenoh_config) as connection:
        sent = sender.follow(connection, patience_s)
    console.print(f"the run is over: agent {agent_id} has sent {sent} messages", highlight=False)


@dataclass(frozen=True)
class OutsideSender:
    """One agent that follows the clock of a run in another process.

    Attributes:
        alliance: the base that the run must have, and the networks.
        source: the scenes that the run must have.
        agent_type: the type of the agent.
        agent_id: the agent.
        codec: of its messages.
        device: on which its network computes.
        keys: folder with the agent's private key, with which its messages are signed; None: they are not.
    """

    alliance: Alliance
    source: SceneSource
    agent_type: str
    agent_id: str
    codec: Codec
    device: torch.device
    keys: str | None = None

    def follow(self, connection: DoorConnection, patience_s: float) -> int:
        """Send a message in each tick until the run is over, and return how many were sent.

        Raises:
            UserError: the run has another base, grid or scenes, or gives no sign for `patience_s`.
        """
        clock, host, sent = _next(connection, None, patience_s), None, 0
        while clock.state != "over":
            host = host or self._join(clock)
            self._require_scene(clock)
            [(message, _)] = host.step([AgentRequest(clock.tick, self.agent_id, self.codec)])
            if message:
                connection.send(message)
                sent += 1
            clock = _next(connection, clock, patience_s)
        return sent

    def _join(self, clock: Clock) -> AgentHost:
        """Check that the run can use the agent's messages, and load its network."""
        facts, alliance = clock.facts, self.alliance
        if facts.base_hash != alliance.base_hash:
            raise UserError(
                f"the run has base {facts.base_hash[:12]}, and the alliance {alliance.base_hash[:12]}: expected an alliance with "
                "the same base, because a fusion node can read no other maps"
            )
        if facts.grid != alliance.grid:
            raise UserError(f"the run has the grid {facts.grid}, and the alliance {alliance.grid}: expected the same one")
        console.print(f"agent {self.agent_id} joins at tick {clock.tick} with type {self.agent_type}", highlight=False)
        options = RunOptions(split=facts.split, codec=self.codec, keys=self.keys)
        torch.set_num_threads(options.threads)
        return AgentHost(AgentSetup.of(alliance, self.agent_type, self.source, options), self.device)

    def _require_scene(self, clock: Clock) -> None:
        """Check that a tick of the run is one of the agent's scenes, at the same instant, and that the agent is in it."""
        if clock.tick >= len(self.source) or self.source.outline(clock.tick).timestamp_ns != clock.timestamp_ns:
            raise UserError(
                f"tick {clock.tick} of the run, at {clock.timestamp_ns} ns, is none of the agent's scenes: expected the same "
                "--source, --preset, --split, --ticks and --seed as those of the simulation"
            )
        if self.agent_id not in (there := self.source.outline(clock.tick).agent_ids):
            raise UserError(f"--id {self.agent_id}: no such agent in tick {clock.tick}; there are {', '.join(there)}")


def _next(connection: DoorConnection, after: Clock | None, patience_s: float) -> Clock:
    """Return the newest tick of the run; UserError if the run gives no sign."""
    clock = connection.next_clock(after, patience_s)
    if clock is None:
        raise UserError(
            f"no sign of the run for {patience_s:g} s: expected a simulation with --door at the endpoint of --connect, and the "
            "name of its run"
        )
    return clock
