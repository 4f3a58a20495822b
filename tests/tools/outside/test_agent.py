"""`heal agent`, an agent as a process of its own: it joins a run, is killed, comes back, and refuses runs that are not its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heal.agents.deployment import Deployment
from heal.agents.door.clock import RunFacts
from heal.agents.door.gateway import Gateway
from heal.agents.door.options import DoorOptions
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.runtime import open_runtime
from heal.alliance import load_alliance
from heal.datasets.town import TownSource
from heal.errors import UserError
from heal.tools.benches.door import free_endpoint
from heal.types import SceneOutline
from tests.agents.tiny_run import save_tiny_alliance
from tests.long.left_over import shared_memory
from tests.tools.command import run_command

pytest.importorskip("zenoh")
TICKS, SEED = 40, 2
OPTIONS = RunOptions(max_age_ms=150.0, comm_range_m=1000.0)


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_alliance(tmp_path_factory.mktemp("alliance"))


def ego_alone(outline: SceneOutline) -> dict[str, str]:
    return {outline.ego_id: "m1"}


@contextmanager
def agent_process(alliance: Path, endpoint: str, agent_id: str) -> Iterator[subprocess.Popen[str]]:
    words = ["--connect", endpoint, "--alliance", str(alliance), "--type", "m1", "--id", agent_id]
    words += ["--preset", "test", "--ticks", str(TICKS), "--seed", str(SEED)]
    command = [sys.executable, "-m", "heal.tools.cli", "agent", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_agent_that_is_killed_comes_back(alliance: Path) -> None:
    source = TownSource("test", SEED, TICKS)
    agent_id, endpoint = source.outline(0).ego_first[1], free_endpoint()
    door = DoorOptions(listen=endpoint, agents=1, first_wait_s=300.0, wait_ms=10_000.0)
    parts = load_alliance(alliance).for_inference(), source, ego_alone, PerfectNetwork(), OPTIONS, Deployment(door=door)
    results: list[TickResult] = []
    before = zenoh_memory()
    with open_runtime("local", *parts) as runtime, agent_process(alliance, endpoint, agent_id) as first:
        run = runtime.run(range(TICKS))
        results += [next(run) for _ in range(5)]
        first.kill()
        first.wait()
        results += [next(run) for _ in range(5)]
        with agent_process(alliance, endpoint, agent_id) as second:
            assert second.stdout is not None and f"agent {agent_id} joins" in second.stdout.readline()
            for result in run:
                results.append(result)
                # Until it has come back, nothing waits for it.
                time.sleep(0.0 if result.faults or len(result.messages) > 1 else 0.2)
            runtime.close()
            assert "the run is over" in second.stdout.read() and second.wait(timeout=60) == 0
    fates = [[record.kind for record in result.messages if record.agent_id == agent_id] for result in results]
    assert fates[:5] == [["used"]] * 5 and fates[5] == ["not sent: silent"]
    faults = [(fault.kind, fault.agent_id) for result in results for fault in result.faults]
    assert faults == [("agent silent", agent_id), ("agent rejoined", agent_id)]
    assert fates[-1] == ["used"]
    assert zenoh_memory() <= before, "no memory is shared with an agent, which would be left when it is killed"


def zenoh_memory() -> set[str]:
    return {name for name in shared_memory() if name.endswith(".zenoh")}


@pytest.mark.parametrize(
    ("base_hash", "timestamp_ns", "agent_id", "expected"),
    [
        ("f00d" * 16, 0, "", "expected an alliance with the same base"),
        ("", 12345, "", "none of the agent's scenes"),
        ("", 0, "nobody", "no such agent in tick 0; there are"),
    ],
)
def test_a_run_that_is_not_the_agents_own_is_refused(
    alliance: Path, base_hash: str, timestamp_ns: int, agent_id: str, expected: str
) -> None:
    source, opened = TownSource("test", SEED, TICKS), load_alliance(alliance)
    gateway = Gateway(DoorOptions(listen=free_endpoint()), RunFacts(base_hash or opened.base_hash, "feature", opened.grid))
    gateway.announce(0, timestamp_ns, [])
    words = ["--alliance", alliance, "--type", "m1", "--id", agent_id or source.outline(0).ego_id, "--ticks", TICKS]
    try:
        with pytest.raises(UserError, match=expected):
            run_command("agent", "--connect", gateway.options.listen, *words, "--preset", "test", "--seed", SEED)
    finally:
        gateway.close()


def test_an_agent_that_hears_of_no_run_gives_up(alliance: Path) -> None:
    with pytest.raises(UserError, match=r"no sign of the run for 0[.]3 s: expected a simulation"):
        run_command(
            "agent", "--connect", free_endpoint(), "--alliance", alliance, "--type", "m1", "--id", "1", "--patience-s", "0.3"
        )
