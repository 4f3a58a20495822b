"""A run on Ray with an agent from outside that is killed and comes back, among strangers who send every kind of bad message.

    python -m tests.long.strangers --ticks 300 --seed 0 --out runs/strangers

`heal simulate --door` runs the ego of a town, with keys; `heal agent` runs a second agent of it as a process of its own, which is
killed by SIGKILL after a third of the ticks, and started again after half of them. In every tick this program sends:

- on the topic of that agent: garbage, a message that nobody has signed, and one that a key off the list has signed;
- on the topic of a third agent, with its key: a message that was changed on its way, one for another base, and that one once more;
- in every 25th tick: a message that is too long.

Afterwards the accounts are printed and written to OUT/strangers.json:

- every bad message is counted, under its own reason;
- the honest agent's message is used in every tick from its first one to the kill, and from its return to the end;
- the boxes of every tick are, to the last bit, those of a run without a door and strangers: of both agents where the honest message
  is used, of the ego alone where it is not.

The exit status is 1 if anything does not add up.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console

from heal.agents.door.clock import Clock
from heal.agents.door.connection import DoorConnection
from heal.agents.door.options import DoorOptions
from heal.datasets.town import TownSource
from heal.identity.envelope import seal
from heal.identity.keys import private_key_path, read_private_key
from heal.message.message import Message
from heal.tools.benches.door import free_endpoint

ALLIANCE, AGENT_TYPE = "configs/demo/alliance", "m1"
TOO_LONG_EVERY, SILENCE_S, PATIENCE_S = 25, 600.0, 3600.0
# The first message after its return may come for a tick that has gone on without the agent.
COMES_BACK = re.compile("used, not sent(, absent)?(, late)?, used")
# Late messages are dropped, so that a tick is that of both agents or that of the ego alone.
COMMON = f"--alliance {ALLIANCE} --types {AGENT_TYPE} --late drop --comm-range-m 1000 --overwrite"
console = Console()


@dataclass
class Strangers:
    """Whoever sends bad messages.

    Attributes:
        endpoint: of the run's door.
        honest: id of the agent on whose topic they send.
        stolen: id of the agent whose private key they have.
        keys: folder of the run's keys.
        ticks: length of the run; in its last tick they send nothing, as what comes after it is part of no tick.
        sent: number of messages that they have sent, by the reason that each should be turned away for.
    """

    endpoint: str
    honest: str
    stolen: str
    keys: Path
    ticks: int
    sent: Counter[str] = field(default_factory=Counter)

    def clocks(self) -> Iterator[Clock]:
        """Send bad messages in every tick until the run is over, and yield each tick's clock after it."""
        with DoorConnection(self.endpoint, "run", self.honest) as one, DoorConnection(self.endpoint, "run", self.stolen) as other:
            clock = one.next_clock(None, SILENCE_S)
            while clock is not None and clock.state != "over":
                if clock.tick < self.ticks - 1:
                    self._send(one, self._unsigned(clock))
                    self._send(other, self._signed(clock))
                yield clock
                clock = one.next_clock(clock, SILENCE_S)

    def _send(self, connection: DoorConnection, messages: Iterator[tuple[str, bytes]]) -> None:
        for reason, content in messages:
            connection.send(content)
            self.sent[reason] += 1

    def _unsigned(self, clock: Clock) -> Iterator[tuple[str, bytes]]:
        """Yield what is sent in the name of the honest agent, each with the reason that it should be turned away for."""
        made_up = _message(clock, self.honest).to_bytes()
        yield "malformed", bytes(200)
        yield "unsigned", made_up
        yield "unknown key", seal(made_up, Ed25519PrivateKey.generate(), time.time_ns(), clock.timestamp_ns)
        if clock.tick % TOO_LONG_EVERY == 0:
            yield "too long", bytes(DoorOptions().most_message_bytes + 1)

    def _signed(self, clock: Clock) -> Iterator[tuple[str, bytes]]:
        """Yield what is sent with a key of the list."""
        key = read_private_key(private_key_path(self.keys, self.stolen))
        foreign = replace(_message(clock, self.stolen), base_hash="beef" * 16).to_bytes()
        signed = seal(foreign, key, time.time_ns(), clock.timestamp_ns)
        yield "bad signature", signed[:-1] + bytes([signed[-1] ^ 1])
        yield "other base", signed
        yield "replayed", signed


def _message(clock: Clock, agent_id: str) -> Message:
    """Return a message that a run could use, of an empty map."""
    grid = clock.facts.grid
    maps = (np.zeros((64, grid.ny, grid.nx), np.float32),)
    return Message(agent_id, AGENT_TYPE, clock.facts.base_hash, clock.timestamp_ns, np.eye(4), grid, maps, ())


def start(command: str, log: Path) -> subprocess.Popen[bytes]:
    """Start `heal`; its output goes to a file."""
    with log.open("ab") as output:
        return subprocess.Popen([sys.executable, "-m", "heal.tools.cli", *command.split()], stdout=output, stderr=subprocess.STDOUT)


def run(command: str, log: Path) -> None:
    """Run `heal` to its end; AssertionError if it fails."""
    with start(command, log) as process:
        status = process.wait(PATIENCE_S)
    assert status == 0, f"heal {command} ended with status {status}: {log.read_text(errors='replace')[-3000:]}"


def among_strangers(ticks: int, seed: int, out: Path) -> tuple[Counter[str], str]:
    """Run the simulation with the outside agent and the strangers; return what they have sent, and the id of the agent."""
    _, honest, stolen = TownSource("demo", seed, ticks).outline(0).ego_first[:3]
    run(f"keys new {out}/keys --seed {seed} --ticks {ticks}", out / "keys.log")
    endpoint, town = free_endpoint(), f"--ticks {ticks} --seed {seed}"
    # The first tick waits for the agent and for the strangers' one; the later ones longer than a busy machine needs.
    door = f"--door {endpoint} --set deployment.door.agents=2 --set deployment.door.wait_ms=5000 --set run.keys={out}/keys"
    agent = f"agent --connect {endpoint} --alliance {ALLIANCE} --type {AGENT_TYPE} --id {honest} --keys {out}/keys {town}"
    strangers = Strangers(endpoint, honest, stolen, out / "keys", ticks)
    simulation = start(f"simulate {COMMON} {town} --agents 1 {door} --out {out}/run", out / "run.log")
    processes = [simulation, start(agent, out / "agent.log")]
    try:
        for clock in strangers.clocks():
            if clock.tick >= ticks // 3:
                processes[1].kill()
            if clock.tick >= ticks // 2 and len(processes) == 2:
                processes.append(start(agent, out / "agent.log"))
        statuses = [process.wait(PATIENCE_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert statuses == [0, -9, 0], f"expected that all but the killed process end well, got {statuses}: see the logs in {out}"
    return strangers.sent, honest


def counted(ticks: list[dict[str, Any]]) -> Counter[str]:
    """Count, by reason, what the door has turned away and what the fusion node has rejected."""
    reasons = sum((Counter(tick.get("turned_away", {})) for tick in ticks), Counter[str]())
    return reasons + Counter(message["reason"] for tick in ticks for message in tick["messages"] if message["status"] == "rejected")


def fates(ticks: list[dict[str, Any]], agent_id: str) -> list[str]:
    """Return what became of an agent's message in every tick; "absent" where it took no part."""
    of_tick = ({message["agent_id"]: message["status"] for message in tick["messages"]} for tick in ticks)
    return [statuses.get(agent_id, "absent") for statuses in of_tick]


def problems(found: list[dict[str, Any]], honest: str, sent: Counter[str], out: Path) -> Iterator[str]:
    """Yield whatever does not add up in a run among strangers, compared with the runs without them."""
    got = counted(found)
    del got["queue full"]  # messages of the honest agent, when it comes back into a tick that does not wait for it
    if got != sent:
        yield f"sent {dict(sent)}, counted {dict(got)}"
    history = ", ".join(status for status, _ in groupby(fates(found, honest)))
    if not COMES_BACK.fullmatch(history):
        yield f"expected that the honest agent is used, silent and used again, got: {history}"
    both, alone = _ticks(out / "both"), _ticks(out / "alone")
    for tick, fate in enumerate(fates(found, honest)):
        expected = (both if fate == "used" else alone)[tick]
        if any(found[tick][part] != expected[part] for part in ("boxes", "scores")):
            yield f"tick {tick}: other boxes than without strangers"


def _ticks(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ticks.jsonl").read_text().splitlines()]


def main(
    out: Annotated[Path, typer.Option(help="Folder of all files, and of strangers.json, without an earlier run's.")],
    ticks: Annotated[int, typer.Option(min=60, help="Length of the run.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the town.")] = 0,
) -> None:
    """Run a simulation among strangers, and print the accounts."""
    out.mkdir(parents=True, exist_ok=True)
    sent, honest = among_strangers(ticks, seed, out)
    for name, agents in (("both", 2), ("alone", 1)):
        town = f"--ticks {ticks} --seed {seed} --agents {agents}"
        run(f"simulate {COMMON} {town} --runtime local --out {out}/{name}", out / f"{name}.log")
    found = _ticks(out / "run")
    accounts = {
        "ticks": len(found),
        "honest": dict(Counter(fates(found, honest))),
        "faults": dict(Counter(fault["kind"] for tick in found for fault in tick["faults"])),
        "turned away": dict(counted(found)),
        "problems": list(problems(found, honest, sent, out)),
    }
    (out / "strangers.json").write_text(json.dumps(accounts, indent=2) + "\n")
    console.print_json(data=accounts)
    raise typer.Exit(bool(accounts["problems"]))


if __name__ == "__main__":
    typer.run(main)
