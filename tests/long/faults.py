"""A long simulation on Ray with a random fault every few seconds: nothing may be lost without a record, and nothing may grow.

    python -m tests.long.faults --minutes 120 --seed 0 --out runs/faults

Processes of agents and fusion nodes are killed or stopped by the system's signals, whatever they are doing. Messages are lost,
delayed, doubled, damaged and read in any order; clocks and poses are wrong; sensors cannot be read; agents come and go with the
recordings, and one more joins. Afterwards the accounts are printed and written to OUT/faults.json:

- every message of every agent and tick has ended in exactly one way, with a reason (`tests.long.accounts.ledger`);
- every tick is equal to that of a run in one process, except where the fusion node has lost its maps
  (`tests.long.accounts.replica`);
- memory, open files and threads of every process, fitted over its age (`tests.long.accounts.growth`);
- processes, shared memory and files that are left when the run is over.

The exit status is 1 if anything does not add up. The world is the small one of the tests, so that there are many ticks in a second.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
from rich.console import Console

from heal.agents.deployment import Deployment
from heal.agents.joining import Join
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from tests.agents.tiny_run import TICK_NS, TinyAlliance, by_id
from tests.long.accounts.breaking import Breaker
from tests.long.accounts.growth import Growth
from tests.long.accounts.ledger import Ledger
from tests.long.accounts.replica import Replica
from tests.long.accounts.troubles import TroubledMailbox, TroubledNetwork, TroubledSource, Troubles, damage_object, scenes
from tests.long.left_over import abandoned, files_below, shared_memory, wait_until_gone

AGENTS = ("ego", "b", "c", "d", "e", "f")
TYPES = by_id({agent_id: ("m1", "m2")[place % 2] for place, agent_id in enumerate(AGENTS)})
JOINS = (Join("m2", 30, "f"),)
MOST_TICKS, SAMPLE_S, GONE_S = 2_000_000, 5.0, 30.0
MARK = "HEAL_LONG_RUN"
console = Console()


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        minutes: for how long.
        seed: of all troubles and breaks.
        every_s: mean time between two breaks of a process.
        share: of all agents' ticks, how many have a trouble.
        realtime: whether the run goes by the wall clock; then it is not compared with a run in one process.
        hang_s: a process that has not answered for so long has hung.
    """

    minutes: float
    seed: int
    every_s: float
    share: float
    realtime: bool
    hang_s: float

    @property
    def options(self) -> RunOptions:
        """The options of the run."""
        return RunOptions(joins=JOINS, realtime=self.realtime)

    @property
    def deployment(self) -> Deployment:
        """Where it computes."""
        return Deployment(hang_s=self.hang_s, restart_ms=300)

    def source(self) -> TroubledSource:
        """Return the scenes."""
        return TroubledSource(scenes(AGENTS, MOST_TICKS, self.seed), Troubles(self.seed, self.share))


def run(plan: Plan) -> dict[str, Any]:
    """Run a plan on Ray, and return its accounts."""
    source, growth = plan.source(), Growth(warm_up_s=min(60.0, plan.minutes * 15))
    hang_ticks = round(plan.hang_s * 1e9 / TICK_NS) if plan.realtime else 0
    ledger = Ledger(lambda tick: _taking_part(source, tick), AGENTS[0], source.troubles, hang_ticks=hang_ticks)
    replica, breaker = Replica(TinyAlliance(), plan.source(), TYPES, plan.options), Breaker(plan.every_s, plan.seed)
    before, began_s = shared_memory(), monotonic()
    with closing(replica), breaker.running():
        for result in _sampled(_results(plan, source), growth):
            ledger.add(result)
            if not plan.realtime:
                replica.add(result)
        minutes = (monotonic() - began_s) / 60
    ledger.close()
    problems = [*ledger.problems, *replica.problems(), *_left_over(breaker, before), *growth.grown()]
    slopes = {
        role: {name: f"{slope.per_hour:.2f} +- {slope.error:.2f}" for name, slope in slopes.items()}
        for role, slopes in growth.slopes().items()
    }
    return {
        "plan": asdict(plan),
        "minutes": round(minutes, 1),
        "ticks": ledger.ticks,
        "messages": ledger.messages,
        "ends": dict(ledger.ends.most_common()),
        "copies turned down": dict(ledger.copies),
        "broken": dict(breaker.done),
        "faults": dict(ledger.faults),
        "compared": {"equal": replica.equal, "skipped": replica.skipped, "different": len(replica.different)},
        "growth an hour": slopes,
        "problems": problems,
    }


def _left_over(breaker: Breaker, shared_before: set[str]) -> Iterator[str]:
    """Yield what is left when the run is over, as problems."""
    yield from (f"left over: stopped process {pid}" for pid in breaker.left_stopped(GONE_S))
    yield from (f"left over: process {line}" for line in wait_until_gone(MARK, str(os.getpid()), GONE_S))
    yield from (f"left over: shared memory {name}" for name in abandoned(shared_memory() - shared_before))


def _taking_part(source: TroubledSource, tick: int) -> list[str]:
    """Return the agents of a tick: those of the scene, except those that have not joined yet."""
    waiting = {join.agent_id for join in JOINS if tick < join.tick}
    return [agent_id for agent_id in source.outline(tick).agent_ids if agent_id not in waiting]


def _results(plan: Plan, source: TroubledSource) -> Iterator[TickResult]:
    """Yield the ticks of a run on Ray until its time is over."""
    from heal.agents.on_ray.runtime import RayRuntime

    network = TroubledNetwork(source.troubles)
    with RayRuntime(TinyAlliance(), source, TYPES, network, plan.options, plan.deployment) as runtime:
        runtime._coordinator._mailbox = TroubledMailbox(plan.options, source.troubles, damage_object)
        until_s = monotonic() + 60 * plan.minutes
        yield from runtime.run(takewhile(lambda _: monotonic() < until_s, range(MOST_TICKS)))


def _sampled(results: Iterator[TickResult], growth: Growth) -> Iterator[TickResult]:
    """Yield results, and take a sample of all processes every few seconds."""
    last_s = 0.0
    for result in results:
        if monotonic() - last_s >= SAMPLE_S:
            growth.sample()
            last_s = monotonic()
        yield result


def main(
    out: Annotated[Path, typer.Option(help="Folder of faults.json.")],
    minutes: Annotated[float, typer.Option(help="Length of the run.")] = 120.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all troubles and breaks.")] = 0,
    every_s: Annotated[float, typer.Option(help="Mean time between two breaks of a process.")] = 5.0,
    share: Annotated[float, typer.Option(help="Share of the agents' ticks with a trouble.")] = 0.2,
    realtime: Annotated[bool, typer.Option("--realtime", help="Run by the wall clock.")] = False,
    hang_s: Annotated[float, typer.Option(help="Time without an answer after which a process counts as hung.")] = 20.0,
) -> None:
    """Run a simulation with faults, and print the accounts."""
    out.mkdir(parents=True, exist_ok=True)
    os.environ[MARK] = str(os.getpid())
    with tempfile.TemporaryDirectory(prefix="long", dir="/tmp") as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        accounts = run(Plan(minutes, seed, every_s, share, realtime, hang_s))
        accounts["problems"] += [f"left over: file {name}" for name in files_below(Path(folder))]
    (out / "faults.json").write_text(json.dumps(accounts, indent=2) + "\n")
    console.print_json(data=accounts)
    raise typer.Exit(bool(accounts["problems"]))


if __name__ == "__main__":
    typer.run(main)
